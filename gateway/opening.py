"""The store that the settings describe: opened here for all who need it, with or without policies and stages."""

from __future__ import annotations

from gateway.settings import Settings
from gateway.store import FileKey, FileSink, Store, load_keyring, load_secret, parse_sinks


async def open_store(settings: Settings, *, must_sign: bool = True) -> Store:
    """Open it. Unless `must_sign` it opens also where the key of its log is lost. Raises ConfigurationError."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return await Store.open(
        settings.database_url,
        secret=load_secret(settings.data_dir, settings.secret),
        log_key=FileKey(settings.log_key or settings.data_dir / "log.key"),
        log_name=settings.log_name,
        must_sign=must_sign,
        sinks=(FileSink(settings.data_dir / "checkpoints", folder=True), *parse_sinks(settings.checkpoint_sinks)),
        keyring=load_keyring(
            settings.data_dir,
            value=settings.vault_key,
            file=settings.vault_key_file,
            kms=settings.vault_kms,
            kms_key=settings.vault_kms_key,
        ),
        files_dir=settings.files,
    )
