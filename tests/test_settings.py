from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.settings import read_settings


def test_flag_wins_over_environment_over_default(tmp_path: Path) -> None:
    env = {"GATEWAY_DATA_DIR": str(tmp_path), "GATEWAY_PORT": "9000"}
    settings = read_settings(env, port=9001)
    assert settings.port == 9001
    assert settings.data_dir == tmp_path
    assert settings.database_url == f"sqlite:///{tmp_path / 'gateway.sqlite3'}"
    assert read_settings({}).host == "127.0.0.1"


def test_every_mistake_is_told_at_once() -> None:
    env = {
        "GATEWAY_PORT": "many",
        "GATEWAY_LOG_LEVEL": "loud",
        "GATEWAY_DATABASE_URL": "mysql://x",
        "GATEWAY_IN_FLIGHT": "0",
    }
    with pytest.raises(ConfigurationError) as caught:
        read_settings(env)
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for name in env:
        assert name in told


def test_the_password_of_a_url_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings({"GATEWAY_DATABASE_URL": "mysql://user:hunter2@host/db"})
    assert "hunter2" not in str(caught.value)
