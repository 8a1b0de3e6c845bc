"""Files of the schema and the published figures of Ali Display Ads."""
