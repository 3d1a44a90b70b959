"""A local SageMaker that really runs the container's command, as a process of this machine.

It speaks the JSON protocol of CreateTrainingJob, DescribeTrainingJob and StopTrainingJob, downloads
channels and checkpoints from S3, uploads model and checkpoints, ships both streams to CloudWatch,
and can interrupt a spot job. S3 and CloudWatch are another server's (moto).
"""

import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3

ACCOUNT = "111122223333"
GROUP = "/aws/sagemaker/TrainingJobs"
_KILL_SECONDS = 30


@dataclass
class RunningJob:
    """A job as the server knows it."""

    request: dict[str, Any]
    root: Path
    status: str = "InProgress"
    secondary: str = "Starting"
    reason: str = ""
    artifact: str = ""
    started: float = field(default_factory=time.time)
    seconds: float = 0
    runs: int = 0
    lines: int = 0
    stopped: bool = False
    interrupted: bool = False
    process: "subprocess.Popen[bytes] | None" = None


class SageMakerServer:
    """The server; `cut` counts answers that are cut off by operation, after the work was done."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.jobs: dict[str, RunningJob] = {}
        self.calls: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self._folder = folder
        self._environment = environment
        self._lock = threading.Lock()
        session = boto3.session.Session()
        self._s3, self._logs = session.client("s3"), session.client("logs")
        self._logs.create_log_group(logGroupName=GROUP)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        for job in self.jobs.values():
            if job.process is not None and job.process.poll() is None:
                job.process.kill()
        self._server.shutdown()
        self._server.server_close()

    def interrupt(self, name: str) -> None:
        """Take the spot instance away; it comes back with the checkpoints."""
        self.jobs[name].interrupted = True
        self._end(self.jobs[name])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                operation = self.headers["X-Amz-Target"].partition(".")[2]
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.calls[operation] += 1
                status, answer = getattr(server, f"_{operation}")(body)
                if server.cut[operation] > 0:
                    server.cut[operation] -= 1
                    self.close_connection = True
                    return
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def _CreateTrainingJob(self, body: dict[str, Any]) -> tuple[int, Any]:  # noqa: N802
        name = body["TrainingJobName"]
        with self._lock:
            if name in self.jobs:
                return _error("ResourceInUse", f"Training job names must be unique: {name}")
            self.jobs[name] = job = RunningJob(body, self._folder / name)
        threading.Thread(target=self._run, args=(name, job), daemon=True).start()
        return 200, {"TrainingJobArn": _arn(name)}

    def _DescribeTrainingJob(self, body: dict[str, Any]) -> tuple[int, Any]:  # noqa: N802
        name = body["TrainingJobName"]
        if name not in self.jobs:
            return _error("ValidationException", "Requested resource not found.")
        job = self.jobs[name]
        answer = {
            **{key: value for key, value in job.request.items() if key != "Tags"},
            "TrainingJobArn": _arn(name),
            "TrainingJobStatus": job.status,
            "SecondaryStatus": job.secondary,
            "ModelArtifacts": {"S3ModelArtifacts": job.artifact},
            "CreationTime": job.started,
        }
        if job.reason:
            answer["FailureReason"] = job.reason
        if job.status not in {"InProgress", "Stopping"}:
            answer["TrainingTimeInSeconds"] = answer["BillableTimeInSeconds"] = round(job.seconds)
        return 200, answer

    def _StopTrainingJob(self, body: dict[str, Any]) -> tuple[int, Any]:  # noqa: N802
        job = self.jobs.get(body["TrainingJobName"])
        if job is None or job.status != "InProgress":
            return _error("ValidationException", "The job cannot be stopped in its state.")
        job.status, job.secondary, job.stopped = "Stopping", "Stopping", True
        self._end(job)
        return 200, {}

    def _end(self, job: RunningJob) -> None:
        process = job.process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        killer = threading.Timer(_KILL_SECONDS, process.kill)
        killer.daemon = True
        killer.start()

    def _run(self, name: str, job: RunningJob) -> None:
        try:
            code = self._once(name, job)
            while job.interrupted and not job.stopped:
                job.interrupted, job.secondary = False, "Interrupted"
                code = self._once(name, job)
        except Exception as error:  # the server's own fault has to show
            job.reason, job.secondary, job.status = (
                f"InternalServerError: {error!r}",
                "Failed",
                "Failed",
            )
            return
        job.seconds = time.time() - job.started
        if job.stopped:
            job.secondary = job.status = "Stopped"
        elif code == 0:
            self._upload_model(name, job)
            job.secondary = job.status = "Completed"
        else:
            failure = job.root / "output/failure"
            text = failure.read_text() if failure.exists() else "the container has failed"
            job.reason = f"AlgorithmError: {text}, exit code: {code}"
            job.secondary = job.status = "Failed"

    def _once(self, name: str, job: RunningJob) -> int:
        job.runs += 1
        job.secondary = "Downloading"
        shutil.rmtree(job.root, ignore_errors=True)
        for folder in ("input/config", "model", "checkpoints", "output"):
            (job.root / folder).mkdir(parents=True)
        parameters = job.root / "input/config/hyperparameters.json"
        parameters.write_text(json.dumps(job.request["HyperParameters"]))
        for channel in job.request["InputDataConfig"]:
            source = channel["DataSource"]["S3DataSource"]["S3Uri"]
            self._download(source, job.root / "input/data" / channel["ChannelName"])
        checkpoints = job.request["CheckpointConfig"]["S3Uri"] + "/"
        self._download(checkpoints, job.root / "checkpoints")
        command = job.request["AlgorithmSpecification"]["ContainerEntrypoint"]
        assert command[0] == "python"
        environment = {
            **self._environment,
            **job.request["Environment"],
            "FTDM_ML_ROOT": str(job.root),
        }
        job.secondary = "Training"
        job.process = subprocess.Popen(
            [sys.executable, *command[1:]],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with job.process:
            self._ship(name, job)
        code = job.process.returncode
        self._upload(job.root / "checkpoints", checkpoints)
        return code

    def _ship(self, name: str, job: RunningJob) -> None:
        stream = f"{name}/algo-1-{round(job.started)}{job.runs}"
        self._logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)

        def ship(pipe: Any) -> None:
            for line in pipe:
                event = {"timestamp": round(time.time() * 1000), "message": line.decode()}
                with self._lock:
                    self._logs.put_log_events(
                        logGroupName=GROUP, logStreamName=stream, logEvents=[event]
                    )
                    job.lines += 1

        assert job.process is not None
        pipes = (job.process.stdout, job.process.stderr)
        threads = [threading.Thread(target=ship, args=(pipe,), daemon=True) for pipe in pipes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _download(self, url: str, folder: Path) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        listed = self._s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
        for item in listed.get("Contents", ()):
            path = folder / item["Key"].removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._s3.download_file(bucket, item["Key"], str(path))

    def _upload(self, folder: Path, url: str) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        for path in folder.rglob("*"):
            if path.is_file():
                key = f"{prefix}{path.relative_to(folder)}"
                self._s3.upload_file(str(path), bucket, key)

    def _upload_model(self, name: str, job: RunningJob) -> None:
        base = job.request["OutputDataConfig"]["S3OutputPath"]
        job.artifact = f"{base}/{name}/output/model.tar.gz"
        bucket, _, key = job.artifact.removeprefix("s3://").partition("/")
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as tar:
            for path in sorted((job.root / "model").iterdir()):
                tar.add(path, path.name)
        self._s3.put_object(Bucket=bucket, Key=key, Body=content.getvalue())


def _arn(name: str) -> str:
    return f"arn:aws:sagemaker:eu-west-1:{ACCOUNT}:training-job/{name}"


def _error(code: str, message: str) -> tuple[int, Any]:
    return 400, {"__type": code, "message": message}
