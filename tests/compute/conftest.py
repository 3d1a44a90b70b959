"""Local services for the tests of remote jobs: S3 and CloudWatch by moto, the others by ours."""

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from tests.compute.kubernetes_server import KubernetesServer
from tests.compute.running import adapter_bytes, settings, thirty_rows
from tests.compute.sagemaker_server import SageMakerServer
from tests.gpu_steps.conftest import tiny_model  # noqa: F401 - a fixture
from tests.local_aws import point_to

BUCKET = "training"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Start S3 and CloudWatch and let the AWS environment name them; return the address."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        point_to(patch, url)
        boto3.session.Session().client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        yield url
    # moto keeps its state in the process, for whoever starts it next.
    httpx.post(f"{url}/moto-api/reset", timeout=30)
    moto.stop()


@pytest.fixture(scope="module")
def container() -> dict[str, str]:
    """The variables that a container has of itself."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}


@pytest.fixture(scope="module")
def sagemaker(
    s3: str, container: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SageMakerServer]:
    """Start SageMaker and let the AWS environment name it; its containers inherit our keys."""
    del s3
    server = SageMakerServer(tmp_path_factory.mktemp("ml"), container)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", server.url)
        yield server
    server.close()


@pytest.fixture(scope="module")
def cluster(
    s3: str, container: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KubernetesServer]:
    """Start a cluster that a kubeconfig names, with the Secret that its containers need."""
    folder = tmp_path_factory.mktemp("cluster")
    server = KubernetesServer(folder / "pods", container)
    server.secrets["ftdm-bucket"] = credentials(s3)
    server.config(folder / "kubeconfig")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
        patch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield server
    server.close()


def credentials(s3: str) -> dict[str, str]:
    """Return what a container needs to use the bucket."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    return {"AWS_ENDPOINT_URL": s3, **{name: os.environ[name] for name in names}}


@pytest.fixture(scope="session")
def trained_here(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:  # noqa: F811
    """The bytes of the adapter that this machine makes of the thirty rows."""
    from gpu_steps.config import parse
    from gpu_steps.reporting import RecordingReporter
    from gpu_steps.train import Train, train

    folder = tmp_path_factory.mktemp("here")
    config = settings(tiny_model, thirty_rows(folder), folder / "result")
    train(parse(config, Train, "here"), RecordingReporter())
    return adapter_bytes(folder / "result")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Thirty rows in a file of their own."""
    return thirty_rows(tmp_path)
