"""Click models: MUSENET and what it is compared with."""
