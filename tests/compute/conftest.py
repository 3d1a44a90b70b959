"""Local AWS for the tests of training jobs: S3 and CloudWatch by moto, SageMaker by our runner."""

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from tests.compute.sagemaker_server import SageMakerServer
from tests.gpu_steps.conftest import tiny_model  # noqa: F401 - a fixture
from tests.local_aws import point_to

BUCKET = "training"


@pytest.fixture(scope="module")
def sagemaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SageMakerServer]:
    """Start both servers and let the AWS environment name them."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    container = {
        name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ
    }
    with pytest.MonkeyPatch.context() as patch:
        point_to(patch, f"http://{host}:{port}")
        boto3.session.Session().client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        server = SageMakerServer(tmp_path_factory.mktemp("ml"), container)
        patch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", server.url)
        yield server
        server.close()
    # moto keeps its state in the process, for whoever starts it next.
    httpx.post(f"http://{host}:{port}/moto-api/reset", timeout=30)
    moto.stop()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Thirty rows in a file of their own."""
    from tests.gpu_steps.gpu_tiny import row, write_lines

    return write_lines(tmp_path / "train.jsonl", [row(number) for number in range(30)])
