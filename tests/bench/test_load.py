import pytest

from bench.gateway_peers import RATES, show
from bench.load import PATH, Found, ask, fake_upstream
from serving.health import free_port


def test_a_caller_sends_as_many_as_were_due_and_counts_what_failed() -> None:
    with fake_upstream() as url:
        found = ask(url + PATH, "any", 0.5, rate=40)
    assert 0 < found.per_second < 45
    assert 0 < found.p50_ms <= found.p99_ms
    assert found.failed == 0
    with pytest.raises(SystemExit, match="20 failed"):
        ask(f"http://127.0.0.1:{free_port()}{PATH}", "any", 0.5, rate=40)


def test_ratios_are_of_medians(capsys: pytest.CaptureFixture[str]) -> None:
    def rounds(per_second: float, p50_ms: float) -> dict[int, list[Found]]:
        times = [Found(per_second * factor, p50_ms * factor, 9.0, 0) for factor in (1, 2, 9)]
        return dict.fromkeys(RATES, times)

    show({"direct": rounds(400, 1), "gateway": rounds(200, 2), "LiteLLM's proxy": rounds(20, 9)})
    told = capsys.readouterr().out
    assert "gateway / direct: 0.5 times" in told
    assert "gateway / LiteLLM's proxy: 10 times" in told
    assert "gateway adds, p50: 2.0 ms at 50/s, 2.0 ms at 200/s" in told
