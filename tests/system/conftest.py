"""The two stacks, each started once for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from impasto.services.client import Client
from impasto.shared.database import Database
from impasto.shared.storage import open_storage
from tests.arrange.processes import ClusterStack, EmbeddedStack, cluster
from tests.arrange.stores import database_at
from tests.servers.postgres import PostgresAt
from tests.servers.swift import S3At
from tests.servers.valkey import ValkeyAt


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedStack]:
    with EmbeddedStack({}) as stack:
        yield stack


@pytest.fixture(scope="session")
def cluster_environment(postgres: PostgresAt, valkey: ValkeyAt, swift: S3At) -> dict[str, str]:
    """The variables of a cluster of its own, its schema and its bucket made."""
    return {
        "IMPASTO_DATABASE_URL": postgres.database(),
        "IMPASTO_BROKER_URL": valkey.fresh(),
        "IMPASTO_STORAGE_URL": swift.bucket(),
        **swift.environment(),
    }


@pytest.fixture(scope="session")
def cluster_database(cluster_environment: dict[str, str]) -> Iterator[Database]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster_environment.items():
            patch.setenv(name, value)
        open_storage(cluster_environment["IMPASTO_STORAGE_URL"]).prepare()
    with database_at(cluster_environment["IMPASTO_DATABASE_URL"]) as database:
        yield database


@pytest.fixture(scope="session")
def two_workers(
    cluster_environment: dict[str, str], cluster_database: Database
) -> Iterator[ClusterStack]:
    with cluster(cluster_environment, workers=2) as stack:
        yield stack


@pytest.fixture(params=["embedded", "two_workers"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of either stack."""
    with Client(request.getfixturevalue(request.param).url) as client:
        yield client


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A content and a style, small and not flat."""
    folder = tmp_path_factory.mktemp("pictures")
    rows, columns = np.mgrid[0:96, 0:128]
    waves = np.stack([columns * 2, rows * 2, 128 + 100 * np.sin(rows / 7)], axis=-1)
    checks = 255 * ((rows // 8 + columns // 8) % 2)[..., None] * np.array([1.0, 0.6, 0.2])
    paths = folder / "waves.png", folder / "checks.png"
    for path, pixels in zip(paths, (waves, checks), strict=True):
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return paths
