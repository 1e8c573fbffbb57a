"""The generators of data/toy.py.

world.py          the words of a small world, and World, which draws sentences, reviews and reasons
instructions.py   243 small tasks about the same world, and the text that a decoder reads before them
"""
