// The AWS SDK for JavaScript v3 as a Pod would use it: default credential chain, one GET (see ../README.md).

import { readFileSync } from "node:fs";
import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";

const manifest = new URL("./node_modules/@aws-sdk/client-s3/package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8"));
const { S3_ADDRESSING, S3_BUCKET, S3_KEY, CLIENT_CALLS = "1" } = process.env;

const line = { client: "aws-sdk-js-v3", version: `${version} (node ${process.versions.node})`, ok: false, calls: 0 };
const start = performance.now();
const elapsed = () => Math.round((performance.now() - start) * 10) / 10;

try {
  const s3 = new S3Client({ forcePathStyle: S3_ADDRESSING !== "virtual" });
  for (let call = 0; call < Number(CLIENT_CALLS); call += 1) {
    const answer = await s3.send(new GetObjectCommand({ Bucket: S3_BUCKET, Key: S3_KEY }));
    line.bytes = (await answer.Body.transformToByteArray()).length;
    line.calls += 1;
    line.first_ms ??= elapsed();
  }
  line.ok = true;
} catch (error) {
  line.error = `${error.name}: ${error.message}`;
}
line.elapsed_ms = elapsed();
console.log(JSON.stringify(line));
// Open keep-alive connections would hold the process for some seconds.
process.exit(line.ok ? 0 : 1);
