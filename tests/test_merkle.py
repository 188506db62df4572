"""The Merkle tree against the RFC's own recursive definition, at every size, and its proofs against forgeries."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.records import merkle


def mth(leaves):
    """RFC 6962, 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, whole):
    """RFC 6962, 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def leaf(number):
    return merkle.leaf_hash(str(number).encode())


class Tiles(dict):
    def __call__(self, level, tile):
        return self.get((level, tile), b"")


def built(*steps):
    tiles, size = Tiles(), 0
    for step in steps:
        tiles.update(merkle.grow(tiles, size, [leaf(size + i) for i in range(step)]))
        size += step
    return tiles


BIG = 70_000  # three levels
ALL = built(1, 255, 1, 1000, BIG - 1257)
LEAVES = [leaf(i) for i in range(BIG)]


def test_known_roots():
    """The test vectors of Certificate Transparency's reference implementation."""
    data = [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"]
    data[3], data[4], data[5] = bytes.fromhex("2021"), bytes.fromhex("3031"), bytes.fromhex("40414243")
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    tiles = Tiles(merkle.grow(lambda level, tile: b"", 0, [merkle.leaf_hash(one) for one in data]))
    assert [merkle.root(tiles, size).hex() for size in range(1, 9)] == roots
    assert merkle.root(tiles, 0) == merkle.EMPTY


@given(st.lists(st.integers(0, 700), max_size=6))
def test_it_does_not_matter_in_what_steps_a_tree_grows(steps):
    assert built(*steps) == built(sum(steps))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 1257, 65_535, 65_536, 65_537, BIG])
def test_roots_at_the_edges(size):
    assert merkle.root(ALL, size) == mth(LEAVES[:size])


@given(st.integers(1, 1500), st.data())
def test_proofs_are_the_ones_of_the_rfc(size, data):
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(0, size))
    root = merkle.root(ALL, size)
    assert root == mth(LEAVES[:size])
    proof = merkle.inclusion(ALL, index, size)
    assert list(proof) == path(index, LEAVES[:size])
    assert merkle.verify_inclusion(LEAVES[index], index, size, proof, root)
    growth = merkle.consistency(ALL, old, size)
    assert list(growth) == (subproof(old, LEAVES[:size], True) if 0 < old < size else [])
    assert merkle.verify_consistency(old, size, merkle.root(ALL, old), root, growth)


@given(st.integers(2, 1500), st.data())
def test_a_forged_proof_is_none(size, data):
    index = data.draw(st.integers(0, size - 1))
    root, proof = merkle.root(ALL, size), merkle.inclusion(ALL, index, size)
    other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index))
    place = data.draw(st.integers(0, len(proof) - 1))
    changed = [*proof]
    changed[place] = bytes([changed[place][0] ^ 1]) + changed[place][1:]
    assert not merkle.verify_inclusion(LEAVES[index], index, size, changed, root)
    assert not merkle.verify_inclusion(LEAVES[other], index, size, proof, root)
    assert not merkle.verify_inclusion(LEAVES[index], index, size, proof[:-1], root)
    assert not merkle.verify_inclusion(LEAVES[index], index, size, (*proof, proof[0]), root)
    assert not merkle.verify_inclusion(LEAVES[index], size, size, proof, root)
    assert not merkle.verify_inclusion(LEAVES[index], -1, size, proof, root)
    assert not merkle.verify_inclusion(LEAVES[index], index, size, (*proof[:-1], b""), root)
    if len(merkle.inclusion(ALL, other, size)) == len(proof):
        assert not merkle.verify_inclusion(LEAVES[index], other, size, proof, root)


@given(st.integers(2, 1500), st.data())
def test_a_rewritten_history_is_not_consistent(size, data):
    old = data.draw(st.integers(1, size - 1))
    growth = merkle.consistency(ALL, old, size)
    first, second = merkle.root(ALL, old), merkle.root(ALL, size)
    assert not merkle.verify_consistency(old, size, leaf("x"), second, growth)
    assert not merkle.verify_consistency(old, size, first, leaf("x"), growth)
    assert not merkle.verify_consistency(old, size, first, second, growth[:-1])
    assert not merkle.verify_consistency(old, size, first, second, (*growth, growth[-1]))
    assert not merkle.verify_consistency(size, old, second, first, growth)
    assert not merkle.verify_consistency(0, size, first, second, ())
    assert not merkle.verify_consistency(size, size, first, second, ())


def test_tiles_that_are_too_short_are_said():
    short = Tiles(built(300))
    short[0, 1] = short[0, 1][:-32]
    with pytest.raises(ValueError, match="tile 1 of level 0"):
        merkle.root(short, 300)
    with pytest.raises(ValueError, match="tile 1 of level 0"):
        merkle.grow(short, 300, [leaf(0)])
    with pytest.raises(ValueError, match="has no leaf 300"):
        merkle.inclusion(ALL, 300, 300)
    with pytest.raises(ValueError, match="does not begin"):
        merkle.consistency(ALL, 2, 1)
