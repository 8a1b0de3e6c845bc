"""Models with weights of their own for each scenario: named by a column, or clusters that they find."""
