"""Windows, cuts and what stands around texts."""

import pytest

from kadapter.data.encoding import truncate_pair, window


def test_a_window_holds_its_span_with_equal_room_around_it_as_far_as_the_text_goes():
    for length in range(1, 10):
        for first in range(length):
            for last in range(first, length):
                for size in range(1, length + 2):
                    begin = window(length, first, last, size)
                    if last < size:
                        expected = 0
                    elif last - first + 1 > size:
                        expected = first
                    else:  # the most even one of all that lie within the text, the left one where two are
                        rooms = {at: (first - at, at + size - 1 - last) for at in range(length - size + 1)}
                        expected = min(rooms, key=lambda at: abs(rooms[at][0] - rooms[at][1]))
                    assert begin == expected, (length, first, last, size)


@pytest.mark.parametrize("size", range(12))
def test_a_pair_is_cut_token_by_token_from_the_longer_one(size):
    for first in range(8):
        for second in range(8):
            left, right = first, second
            while left + right > size:  # adapter-bert run_classifier.py: _truncate_seq_pair
                left, right = (left - 1, right) if left > right else (left, right - 1)
            assert truncate_pair(first, second, size) == (left, right)
