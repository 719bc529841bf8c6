//! Owns the keys of Kafka's clients that have no meaning here (yet), each with the reason and what to do instead, so that
//! a configuration carried over from Kafka never loses a setting silently. Never holds a supported key.

/// Keys that share a reason.
#[derive(Debug)]
pub(super) struct Unsupported {
    pub(super) names: &'static [&'static str],
    pub(super) why: &'static str,
    pub(super) instead: &'static str,
}

/// The entry of a key, if it is one of Kafka's that is not supported.
pub(super) fn find(key: &str) -> Option<&'static Unsupported> {
    UNSUPPORTED.iter().find(|entry| entry.names.contains(&key))
}

const REMOVE: &str = "remove the key";

pub(super) const UNSUPPORTED: &[Unsupported] = &[
    Unsupported {
        names: &["key.serializer", "value.serializer", "key.deserializer", "value.deserializer"],
        why: "keys and values are bytes",
        instead: "convert them before sending and after receiving, and remove the key",
    },
    Unsupported {
        names: &["retries"],
        why: "retries are bounded by time, not by number",
        instead: "set delivery.timeout.ms (producer) or default.api.timeout.ms",
    },
    Unsupported {
        names: &[
            "transactional.id",
            "transaction.timeout.ms",
            "transaction.two.phase.commit.enable",
        ],
        why: "transactions are not built",
        instead: "remove the key; idempotence is on without it",
    },
    Unsupported {
        names: &["heartbeat.interval.ms"],
        why: "the coordinator tells each member how often to report",
        instead: "remove the key; session.timeout.ms is what bounds a silence",
    },
    Unsupported {
        names: &["group.remote.assignor"],
        why: "all assignors run at the coordinator",
        instead: "set partition.assignment.strategy",
    },
    Unsupported {
        names: &["exclude.internal.topics"],
        why: "there are no internal topics that a pattern could match",
        instead: REMOVE,
    },
    Unsupported {
        names: &["share.acknowledgement.mode", "share.acquire.mode"],
        why: "share groups are not built",
        instead: "remove the key and subscribe in a consumer group",
    },
    Unsupported {
        names: &["allow.auto.create.topics"],
        why: "topics are never created by reading",
        instead: "create the topic with Admin::create_topics and remove the key",
    },
    Unsupported {
        names: &["bootstrap.controllers"],
        why: "there are no separate controllers: every node answers",
        instead: "set bootstrap.servers",
    },
    Unsupported {
        names: &["client.dns.lookup"],
        why: "every address is resolved whenever it is dialled",
        instead: REMOVE,
    },
    Unsupported {
        names: &[
            "connections.max.idle.ms",
            "reconnect.backoff.ms",
            "reconnect.backoff.max.ms",
            "receive.buffer.bytes",
            "send.buffer.bytes",
            "socket.connection.setup.timeout.ms",
            "socket.connection.setup.timeout.max.ms",
        ],
        why: "connections are HTTP/2 with measured settings, kept alive by pings",
        instead: "remove the key; retry.backoff.ms bounds reconnecting too",
    },
    Unsupported {
        names: &[
            "metadata.max.idle.ms",
            "metadata.recovery.strategy",
            "metadata.recovery.rebootstrap.trigger.ms",
        ],
        why: "every bootstrap address and every known node is tried whenever metadata is read",
        instead: REMOVE,
    },
    Unsupported {
        names: &[
            "enable.metrics.push",
            "metric.reporters",
            "metrics.num.samples",
            "metrics.recording.level",
            "metrics.sample.window.ms",
        ],
        why: "the client reports through the tracing crate",
        instead: "install a tracing subscriber and remove the key",
    },
    Unsupported {
        names: &["interceptor.classes", "config.providers", "security.providers"],
        why: "it names Java classes to load",
        instead: "wrap Producer or Consumer in your own type",
    },
    Unsupported {
        names: &["compression.gzip.level", "compression.lz4.level", "compression.zstd.level"],
        why: "each codec runs at its default level",
        instead: "remove the key; compression.type chooses the codec",
    },
    Unsupported {
        names: &["partitioner.adaptive.partitioning.enable", "partitioner.availability.timeout.ms"],
        why: "records without a key stick to a random partition until its batch is sent",
        instead: "remove the key, or set a custom partitioner",
    },
    Unsupported { names: SASL, why: "authentication is not built", instead: REMOVE },
    Unsupported {
        names: SSL,
        why: "TLS is not built",
        instead: "remove the key and keep security.protocol=PLAINTEXT on a network you trust",
    },
];

const SASL: &[&str] = &[
    "sasl.client.callback.handler.class",
    "sasl.jaas.config",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.service.name",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "sasl.login.connect.timeout.ms",
    "sasl.login.read.timeout.ms",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "sasl.login.retry.backoff.max.ms",
    "sasl.login.retry.backoff.ms",
    "sasl.mechanism",
    "sasl.oauthbearer.assertion.algorithm",
    "sasl.oauthbearer.assertion.claim.aud",
    "sasl.oauthbearer.assertion.claim.exp.seconds",
    "sasl.oauthbearer.assertion.claim.iss",
    "sasl.oauthbearer.assertion.claim.jti.include",
    "sasl.oauthbearer.assertion.claim.nbf.seconds",
    "sasl.oauthbearer.assertion.claim.sub",
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.template.file",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.clock.skew.seconds",
    "sasl.oauthbearer.expected.audience",
    "sasl.oauthbearer.expected.issuer",
    "sasl.oauthbearer.header.urlencode",
    "sasl.oauthbearer.jwks.endpoint.refresh.ms",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
    "sasl.oauthbearer.jwks.endpoint.url",
    "sasl.oauthbearer.jwt.retriever.class",
    "sasl.oauthbearer.jwt.validator.class",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.scope.claim.name",
    "sasl.oauthbearer.sub.claim.name",
    "sasl.oauthbearer.token.endpoint.url",
];

const SSL: &[&str] = &[
    "ssl.cipher.suites",
    "ssl.enabled.protocols",
    "ssl.endpoint.identification.algorithm",
    "ssl.engine.factory.class",
    "ssl.key.password",
    "ssl.keymanager.algorithm",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.protocol",
    "ssl.provider",
    "ssl.secure.random.implementation",
    "ssl.trustmanager.algorithm",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];
