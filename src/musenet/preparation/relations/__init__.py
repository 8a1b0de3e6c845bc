"""The relational half of preparation: requests, entities, histories, repeats, periods."""
