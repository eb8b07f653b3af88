"""Pictures by our own recipe: the way of a job's picture, without the service around it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.vgg import original_weights
from impasto.shared.object_keys import digest
from impasto.shared.pictures.codec import Decoded, Picture
from impasto.shared.pictures.pool import Decoders
from impasto.shared.spec import JobSpec
from impasto.workers import images
from impasto.workers.engine.network.vgg import Vgg, resolve_precision
from impasto.workers.engine.objective.styles import StyleCache
from impasto.workers.engine.render.render import Render
from impasto.workers.spec_to_plan import finished, in_styles_colors, plan_of, style_of


@dataclass
class Renderer:
    """What all pictures share. Files are kept by their ids, as in the storage."""

    vgg: Vgg = field(default_factory=lambda: Vgg(original_weights()))
    decoders: Decoders = field(default_factory=Decoders)
    cache: StyleCache = field(default_factory=StyleCache)
    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, file: bytes) -> str:
        """Its id."""
        asset = digest(file)
        self.files[asset] = file
        return asset

    def render(self, spec: JobSpec) -> bytes:
        """The file that a job with this spec would end with."""
        content = self._content(spec)
        image = self._image(spec, content.picture)
        return images.encode(
            image, spec.format, bits=spec.bits, quality=spec.quality, alpha=content.alpha
        )

    def image(self, spec: JobSpec) -> images.Rendered:
        """What that file holds, but for its alpha, before it is rounded."""
        return self._image(spec, self._content(spec).picture)

    def begun(self, spec: JobSpec) -> Render:
        """The render of a spec, at its start."""
        return self._begun(spec, self._content(spec).picture)

    def _content(self, spec: JobSpec) -> Decoded:
        return self.decoders.decode(self.files[spec.content], spec.size)

    def _image(self, spec: JobSpec, content: Picture) -> images.Rendered:
        render = self._begun(spec, content)
        render.step()
        while not render.is_finished:
            render.step()
        return finished(render.image().numpy(), content, spec)

    def _begun(self, spec: JobSpec, content: Picture) -> Render:
        file: Callable[[str], bytes] = self.files.__getitem__
        styles = [
            style_of(painting, spec, content, file, self.decoders) for painting in spec.styles
        ]
        init = None
        if spec.init_asset:
            decoded = self.decoders.decode(self.files[spec.init_asset], spec.size)
            init = torch.from_numpy(decoded.picture)
        return Render(
            plan_of(spec, resolve_precision(spec.precision, self.vgg.device)),
            self.vgg,
            torch.from_numpy(in_styles_colors(content, styles, spec)),
            styles,
            init=init,
            cache=self.cache,
        )

    def spec(self, content: Path, style: Path, **fields: Any) -> JobSpec:
        """Of two files."""
        named: Mapping[str, Any] = {
            "content": self.add(content.read_bytes()),
            "styles": [self.add(style.read_bytes())],
        }
        return JobSpec.model_validate({**named, **fields})
