"""What the owner of a database can do to a log. Each attack takes a `tamper.Log` of 300 records, and changes it."""

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from store.kit import SECRET, outcomes

from gateway.records import Digester, canonical, merkle, record_of
from gateway.records.handover import handover_text
from gateway.records.note import Signer, TreeHead, sign
from gateway.store.sequencer import Sequencer
from gateway.store.signer import DerivedKey, LogSigner
from gateway.store.tables import checkpoints, decision_log, entries, log_keys, metadata, tree_state, tree_tiles
from gateway.store.writer import row_of

STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))


def other_record():
    return row_of(record_of(outcomes.released(), Digester(SECRET))).values()


async def flip_a_byte(log):
    body = bytearray((await log.row(7))["body"])
    body[100] ^= 1
    await log.put(7, body=bytes(body))


async def flip_a_byte_and_its_leaf(log):
    body = (await log.row(7))["body"].replace(b'"stream":false', b'"stream":true')
    await log.put(7, body=body, leaf=merkle.leaf_hash(body))


async def flip_in_the_last_tile(log):
    body = (await log.row(290))["body"].replace(b'"stream":false', b'"stream":true')
    await log.put(290, body=body, leaf=merkle.leaf_hash(body))


async def rewrite_a_record_whole(log):
    given = other_record()
    given["id"] = log.ids[7]
    record = record_of(outcomes.released(), Digester(SECRET))
    body = canonical(type(record)(**{f: getattr(record, f) for f in record.__struct_fields__} | {"id": log.ids[7]}))
    await log.put(7, body=body, leaf=merkle.leaf_hash(body), outcome="released", at=record.at)
    await log.do(entries.update().where(entries.c.position == 6).values(at=record.at))


async def rewrite_a_record_and_all_tiles(log):
    await rewrite_a_record_whole(log)
    async with log.engine.connect() as connection:
        rows = (await connection.execute(sa.select(decision_log.c.leaf).order_by(decision_log.c.sequence))).scalars()
    tiles = merkle.grow(lambda level, tile: b"", 0, [bytes(leaf) for leaf in rows])
    for (level, tile), hashes in tiles.items():
        where = sa.and_(tree_tiles.c.level == level, tree_tiles.c.tile == tile)
        await log.do(tree_tiles.update().where(where).values(hashes=hashes))


async def delete_a_row(log):
    await log.do("DELETE FROM decision_log WHERE sequence = 7")


async def delete_a_row_with_its_entry(log):
    await log.do("DELETE FROM decision_log WHERE sequence = 7", "DELETE FROM entries WHERE sequence = 7")


async def delete_a_row_and_close_the_gap(log):
    await delete_a_row_with_its_entry(log)
    await log.do("UPDATE entries SET position = position + 1000 WHERE position > 6")
    await log.do("UPDATE entries SET position = position - 1001 WHERE position > 6")


async def swap_two_rows(log):
    seven, nine = await log.row(7), await log.row(9)
    await log.put(7, id="away")
    await log.put(9, **{k: v for k, v in seven.items() if k != "sequence"})
    await log.put(7, **{k: v for k, v in nine.items() if k != "sequence"})


async def swap_two_places(log):
    for old, new in ((6, 1000), (8, 6), (1000, 8)):
        await log.do("UPDATE entries SET position = :new WHERE position = :old", old=old, new=new)


async def put_another_record_in_a_place(log):
    await log.do("DELETE FROM decision_log WHERE sequence = 7")
    await log.insert(7, other_record())


async def cut_the_rows(log):
    await log.do("DELETE FROM decision_log WHERE sequence > 260")


async def cut_rows_and_entries(log):
    await log.do("DELETE FROM decision_log WHERE sequence > 260", "DELETE FROM entries WHERE position >= 260")


async def cut_all_but_checkpoints(log):
    await cut_rows_and_entries(log)
    tile = (await log.one("SELECT hashes FROM tree_tiles WHERE level = 0 AND tile = 1"))[0]
    where = sa.and_(tree_tiles.c.level == 0, tree_tiles.c.tile == 1)
    await log.do(
        tree_tiles.update().where(where).values(hashes=bytes(tile)[: 4 * 32]),
        tree_state.update().values(size=260, low=260),
    )
    if not log.postgres:
        await log.do("UPDATE sqlite_sequence SET seq = 260 WHERE name = 'decision_log'")


async def cut_everything(log):
    await cut_all_but_checkpoints(log)
    await log.do("DELETE FROM checkpoints WHERE size > 260")


async def rewrite_history(log, key=STRANGER, records=300, row=None):
    """Make another log in the place of this one."""
    names = [t.name for t in metadata.sorted_tables if t.name not in ("store_facts", "tree_state", "api_keys")]
    await log.do(*(f"DELETE FROM {name}" for name in reversed(names)))
    await log.do(tree_state.update().values(size=0, low=0))
    if not log.postgres:
        await log.do("DELETE FROM sqlite_sequence WHERE name = 'decision_log'")
    else:
        await log.do("ALTER TABLE decision_log ALTER COLUMN sequence RESTART WITH 1")
    signer = Signer(log.key.verifier.name, key)
    now = outcomes.refused().started
    await log.do(log_keys.insert().values(**(row or {"number": 1, "vkey": signer.verifier.vkey, "size": 0}), at=now))
    for _ in range(records):
        values = other_record()
        await log.do(decision_log.insert().values(**values))

    class Source(DerivedKey):
        def load(self, due):
            return key

    sequencer = Sequencer(log.engine, LogSigner(Source(SECRET), signer.verifier, signer, None))
    await sequencer.catch_up()
    await sequencer.close()


async def rewrite_history_with_a_new_key(log):
    await rewrite_history(log)


async def rewrite_history_with_the_stolen_key(log):
    await rewrite_history(log, DerivedKey(SECRET).create())


async def add_a_key_without_the_old_one(log):
    stranger = Signer(log.key.verifier.name, STRANGER)
    text = handover_text(2, 300, log.key.verifier, stranger.verifier)
    values = {"number": 2, "vkey": stranger.verifier.vkey, "size": 300, "note": sign(text, stranger)}
    await log.do(log_keys.insert().values(**values, at=outcomes.refused().started))


async def add_a_key_without_a_statement(log):
    stranger = Signer(log.key.verifier.name, STRANGER)
    values = {"number": 2, "vkey": stranger.verifier.vkey, "size": 300}
    await log.do(log_keys.insert().values(**values, at=outcomes.refused().started))


async def replace_the_key(log):
    await log.do("UPDATE log_keys SET vkey = :vkey", vkey=Signer(log.key.verifier.name, STRANGER).verifier.vkey)


async def remove_the_keys(log):
    await log.do("DELETE FROM log_keys")


async def _note(log, size, signer, root=None, column=None):
    due = bytes((await log.one("SELECT root FROM checkpoints WHERE size = :size", size=size))[0])
    head = TreeHead(origin=log.key.verifier.name, size=size, root=root or due)
    values = {"note": sign(head.text, signer), "root": column or root or due}
    await log.do(checkpoints.update().where(checkpoints.c.size == size).values(**values))


async def forge_by_a_stranger(log):
    await _note(log, 260, Signer(log.key.verifier.name, STRANGER))


async def forge_a_signature(log):
    note = (await log.one("SELECT note FROM checkpoints WHERE size = 260"))[0]
    at = note.rindex("=\n") - 20
    await log.do(
        "UPDATE checkpoints SET note = :note WHERE size = 260",
        note=note[:at] + ("A" if note[at] != "A" else "B") + note[at + 1 :],
    )


async def forge_a_root_column(log):
    await _note(log, 260, log.key, column=bytes(32))


async def forge_a_root_with_the_stolen_key(log):
    await _note(log, 260, log.key, root=bytes(32))


async def forge_no_note(log):
    await log.do("UPDATE checkpoints SET note = 'trust me' WHERE size = 5")


async def remove_the_last_checkpoint(log):
    await log.do("DELETE FROM checkpoints WHERE size = 300")


async def change_a_column(log):
    await log.put(7, department="pathology")


async def change_a_time(log):
    at = (await log.row(8))["at"]
    await log.put(7, at=at)


async def change_the_time_of_an_entry(log):
    at = (await log.row(8))["at"]
    await log.do(entries.update().where(entries.c.position == 6).values(at=at))


async def rename_an_entry(log):
    await log.do("UPDATE entries SET id = 'dec_other' WHERE position = 6")


async def insert_far_out(log):
    if log.postgres:  # a number that a rolled back transaction left, and that the sequencer went past
        await log.do("UPDATE tree_state SET low = 310")
    await log.insert(305, other_record())


async def insert_with_a_place(log):
    await log.insert(301, other_record())
    await log.do(
        "INSERT INTO entries (position, sequence, id, at, facet) SELECT 300, sequence, id, at, 1 FROM decision_log"
        " WHERE sequence = 301"
    )


async def _tile(log, level, tile, at):
    hashes = bytearray((await log.one(f"SELECT hashes FROM tree_tiles WHERE level = {level} AND tile = {tile}"))[0])
    hashes[at * 32] ^= 1
    where = sa.and_(tree_tiles.c.level == level, tree_tiles.c.tile == tile)
    await log.do(tree_tiles.update().where(where).values(hashes=bytes(hashes)))


async def change_a_tile(log):
    await _tile(log, 0, 0, 6)


async def change_the_last_tile(log):
    await _tile(log, 0, 1, 40)


async def change_an_upper_tile(log):
    await _tile(log, 1, 0, 0)


async def remove_a_tile(log):
    await log.do("DELETE FROM tree_tiles WHERE level = 0 AND tile = 1")


async def shrink_the_tree(log):
    await log.do("UPDATE tree_state SET size = 260")


async def stretch_the_tree(log):
    await log.do("UPDATE tree_state SET size = 301")


async def pass_over_what_waits(log):
    await log.insert(301, other_record())
    await log.do("UPDATE tree_state SET low = 301")


async def remove_the_state(log):
    await log.do("DELETE FROM tree_state")


async def slip_something_into_the_vault(log):
    await log.do(
        "INSERT INTO vault (id, department, at, kek, digest) SELECT id, department, at, '', leaf FROM decision_log"
        " WHERE sequence = 7"
    )


ATTACKS = [
    (flip_a_byte, 7, "record 7 .*bytes do not have its leaf hash"),
    (flip_a_byte_and_its_leaf, 7, "record 7 .*not the one that was signed"),
    (flip_in_the_last_tile, 290, "record 290 .*not the one that was signed"),
    (rewrite_a_record_whole, 7, "record 7 .*not the one that was signed"),
    (
        rewrite_a_record_and_all_tiles,
        None,
        "checkpoint over 260 .*another root.*from the place 5 to before the place 260",
    ),
    (delete_a_row, 7, "record 7 .*is missing"),
    (delete_a_row_with_its_entry, None, "the place 6 of the tree has no entry"),
    (delete_a_row_and_close_the_gap, (7, 8), "missing before record 8|record 8 .*not the one that was signed"),
    (swap_two_rows, 7, "record 7 .*stands where the tree has"),
    (swap_two_places, 9, "record 9 "),
    (put_another_record_in_a_place, 7, "record 7 .*stands where the tree has"),
    (cut_the_rows, 261, "record 261 .*is missing"),
    (cut_rows_and_entries, None, "the place 260 of the tree has no entry"),
    (cut_all_but_checkpoints, None, "last checkpoint is over 300 records, and the tree has 260: the end .*cut off"),
    (add_a_key_without_the_old_one, None, "key 2 of the log.*not put in its place by the key before it"),
    (add_a_key_without_a_statement, None, "key 2 of the log.*without a statement"),
    (replace_the_key, None, "signed by no key of this log"),
    (remove_the_keys, None, "`log_keys` is empty"),
    (forge_by_a_stranger, None, "checkpoint over 260 .*forged.*no key of this log"),
    (forge_a_signature, None, "checkpoint over 260 .*forged.*signature is not good"),
    (forge_a_root_column, None, "checkpoint over 260 .*in its note than in its columns"),
    (forge_a_root_with_the_stolen_key, None, "checkpoint over 260 .*another root"),
    (forge_no_note, None, "checkpoint over 5 records is none"),
    (remove_the_last_checkpoint, None, "last checkpoint is over 260 records, and the tree has 300"),
    (change_a_column, 7, "record 7 .*column `department`"),
    (change_a_time, 7, "record 7 "),
    (change_the_time_of_an_entry, 7, "record 7 .*entry.*another time"),
    (rename_an_entry, 7, "record 7 .*stands where the tree has the record `dec_other`"),
    (insert_far_out, (301, 305), "missing before record 305|record 305 .*never sequenced, or was put in later"),
    (insert_with_a_place, None, "entries up to the place 300, and the tree has 300"),
    (change_a_tile, None, "tile 0 of the tree was changed: its hash 6 .*record 7 "),
    (change_the_last_tile, None, "tile 1 of the tree was changed: its hash 40 .*record 297 "),
    (change_an_upper_tile, None, "tile 0 of level 1"),
    (remove_a_tile, None, "tile 1 of the tree was changed"),
    (shrink_the_tree, None, "last checkpoint is over 300 records, and the tree has 260"),
    (stretch_the_tree, None, "the place 300 of the tree has no entry"),
    (pass_over_what_waits, 301, "record 301 .*never sequenced"),
    (remove_the_state, None, "`tree_state` is empty"),
    (slip_something_into_the_vault, None, "record 7 .*sealed content"),
]
