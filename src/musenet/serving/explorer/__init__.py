"""The page that shows why: a user, a context, and what comes of them."""
