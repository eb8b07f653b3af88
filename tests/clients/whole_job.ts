// A whole job by openapi-fetch with the types that openapi-typescript generates.
//
// node whole_job.ts URL CONTENT STYLE; prints what it saw as JSON.

import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.d.ts";

const [url, ...pictures] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url });

async function uploaded(path: string): Promise<string> {
  const form = new FormData();
  form.append("file", new Blob([await readFile(path)]), "picture.png");
  const { data, error } = await client.POST("/v1/assets", {
    body: { file: "" },
    bodySerializer: () => form,
  });
  if (error) throw new Error(error.detail);
  return data.id;
}

const [content, style] = [await uploaded(pictures[0]), await uploaded(pictures[1])];
const spec = { content, styles: [style], size: 64, iterations: 3, seed: Number.MAX_SAFE_INTEGER };
const refused = await client.POST("/v1/jobs", { body: { ...spec, size: 1 } });
if (!refused.error) throw new Error("a size of 1 was accepted");
const problem: components["schemas"]["Problem"] = refused.error;
const submitted = await client.POST("/v1/jobs", {
  body: spec,
  params: { header: { "Idempotency-Key": "a key" } },
});
if (submitted.error) throw new Error(submitted.error.detail);
let job: components["schemas"]["JobDocument"] = submitted.data;
const params = { path: { job_id: job.id } };
while (job.status === "queued" || job.status === "running") {
  await setTimeout(100); // between two looks
  const { data, error } = await client.GET("/v1/jobs/{job_id}", { params });
  if (error) throw new Error(error.detail);
  job = data;
}
if (job.status !== "succeeded") throw new Error(job.error?.detail);
const manifest = await client.GET("/v1/jobs/{job_id}/manifest", { params });
const losses = await client.GET("/v1/jobs/{job_id}/losses", { params, parseAs: "text" });
const result = await client.GET("/v1/jobs/{job_id}/result", { params, parseAs: "arrayBuffer" });
const listed = await client.GET("/v1/jobs", { params: { query: { status: ["succeeded"] } } });
if (manifest.error || losses.error || result.error || listed.error) throw new Error("no files");
console.log(
  JSON.stringify({
    refused: [problem.code, problem.errors?.[0].field],
    job: job.id,
    listed: listed.data.jobs.map((each) => each.id),
    warned: job.warnings.map((warning) => warning.code),
    seed: manifest.data.spec.seed,
    style: manifest.data.spec.styles[0].asset,
    sha256: manifest.data.result.sha256,
    result: Buffer.from(result.data).toString("hex"),
    losses: losses.data,
  }),
);
