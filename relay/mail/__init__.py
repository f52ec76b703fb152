"""The words of the project: values only, standard library only.

Every other room speaks in these types. Nothing here does I/O, reads a clock or rolls dice.
"""
