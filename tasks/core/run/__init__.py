"""The steps of one run, between what arrived and what is concluded."""
