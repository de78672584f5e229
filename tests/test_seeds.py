from agl.seeds import seeded


def test_streams_are_reproducible_and_distinct() -> None:
    words = [(0, "a"), (0, "b"), (1, "a"), (0, "a", 0), (0, "a", 1), (0, 1), (0, 2)]
    draws = [seeded(*word).integers(2**60) for word in words]
    assert len(set(draws)) == len(words)
    assert draws == [seeded(*word).integers(2**60) for word in words]
