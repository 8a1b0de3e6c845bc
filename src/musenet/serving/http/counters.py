"""What the service counts of itself, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from musenet.serving.service.mix import MixAnswer

BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


class Counters:
    """Counters of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter("musenet_requests", "Requests answered", ["route", "status"], registry=self._registry)
        self.seconds = Histogram(
            "musenet_request_seconds", "Time to answer", ["route"], buckets=BUCKETS, registry=self._registry
        )
        self.candidates = Histogram(
            "musenet_candidates", "Candidates of a request", buckets=SIZES, registry=self._registry
        )
        self.unseen = Counter("musenet_unseen", "Ids that the model had never seen", ["what"], registry=self._registry)
        self.events = Counter("musenet_events", "Events kept", ["what"], registry=self._registry)
        self.answers = Counter(
            "musenet_answers", "Events that name a request which was shown", ["outcome"], registry=self._registry
        )
        self.mix_requests = Gauge("musenet_mix_requests", "Answered requests used for the mix", registry=self._registry)
        self.mix_trust = Gauge("musenet_mix_trust", "Weight of the followed mix", registry=self._registry)
        self.mix_share = Gauge(
            "musenet_mix_share", "Mean share of a scenario, as trained and as followed", ["scenario", "by"],
            registry=self._registry,
        )  # fmt: skip
        self.reloads = Counter("musenet_reloads", "Exports taken or refused", ["outcome"], registry=self._registry)
        self.model = Gauge("musenet_model", "The model in use", ["version"], registry=self._registry)

    def use(self, version: str) -> None:
        """Note which model answers from now on."""
        self.model.clear()
        self.model.labels(version).set(1)

    def note_mix(self, mix: MixAnswer) -> None:
        """Note the mix of scenarios that is followed."""
        self.mix_requests.set(mix.answered)
        self.mix_trust.set(mix.trust or 0.0)
        for moment in mix.moments[-1:]:
            for by, shares in (("model", moment.trained), ("mix", moment.followed)):
                for scenario, share in enumerate(shares):
                    self.mix_share.labels(str(scenario), by).set(share)

    def text(self) -> bytes:
        """Everything, in Prometheus's format."""
        return generate_latest(self._registry)
