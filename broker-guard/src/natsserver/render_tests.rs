#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{fs, path::Path, process::Command};

use nkeys::{KeyPair, KeyPairType, XKey};

use super::{render::quote, *};

/// Keys that are the same in every run, for snapshots. Their seeds are public: never log in with them.
fn user(n: u8) -> UserKey {
    UserKey::parse(&KeyPair::new_from_raw(KeyPairType::User, [n; 32]).unwrap().public_key()).unwrap()
}

fn keys() -> BusKeys {
    let account = KeyPair::new_from_raw(KeyPairType::Account, [4; 32]).unwrap().public_key();
    BusKeys {
        guard: user(1),
        system: user(2),
        break_glass: user(3),
        publisher: user(10),
        callout_issuer: AccountKey::parse(&account).unwrap(),
        callout_xkey: CurveKey::parse(&XKey::new_from_raw([5; 32]).public_key()).unwrap(),
    }
}

fn development() -> NatsConfig {
    NatsConfig::development(keys())
}

fn production() -> NatsConfig {
    let mut config = development();
    config.server_name = "sealbus-1".into();
    config.host = "0.0.0.0".into();
    config.monitoring = Some(([127, 0, 0, 1], 8222).into());
    config.pid_file = Some("/run/nats/nats.pid".into());
    config.jetstream =
        Some(JetStream { store_dir: "/var/lib/nats".into(), max_memory: 1 << 28, max_file: 10 << 30 });
    config.tls = Some(Tls {
        cert_file: "/etc/nats/tls/server.crt".into(),
        key_file: "/etc/nats/tls/server.key".into(),
        client_ca_file: None,
    });
    config.leaf =
        Some(LeafListener { host: "0.0.0.0".into(), port: ListenPort::Fixed(7422), users: vec![user(6)] });
    config.tenants = vec![Tenant {
        account: "BILLING".into(),
        users: vec![TenantUser {
            key: user(7),
            publish: vec!["billing.>".into()],
            subscribe: vec!["billing.>".into(), "_INBOX.>".into()],
        }],
    }];
    config
}

/// Whether nats-server takes the text, and what it says.
fn accepted(text: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nats.conf");
    fs::write(&path, text).unwrap();
    let binary = locate_or_fetch().unwrap();
    let output = Command::new(binary.path()).args(["-t", "-c"]).arg(&path).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn snapshots() {
    insta::assert_snapshot!("development", development().render().unwrap());
    insta::assert_snapshot!("production", production().render().unwrap());
}

#[test]
fn nats_server_accepts_every_variant() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = dir.path().join("tls.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=localhost", "-keyout"])
        .arg(&certificate)
        .arg("-out")
        .arg(dir.path().join("crt.pem"))
        .output();
    // Without an openssl the variants with TLS are left to the integration tests.
    let tls = made.is_ok_and(|made| made.status.success()).then(|| Tls {
        cert_file: dir.path().join("crt.pem"),
        key_file: certificate.clone(),
        client_ca_file: None,
    });
    let mtls = tls.clone().map(|tls| Tls { client_ca_file: Some(tls.cert_file.clone()), ..tls });
    let jetstream = JetStream { store_dir: dir.path().join("js"), max_memory: 1 << 20, max_file: 1 << 20 };
    for base in [development(), production()] {
        for tls in [None, tls.clone(), mtls.clone()] {
            for jetstream in [None, Some(jetstream.clone())] {
                for leaf in [None, production().leaf] {
                    for break_glass in [vec![], vec![user(8), user(9)]] {
                        let mut config = base.clone();
                        (config.tls, config.jetstream, config.leaf) =
                            (tls.clone(), jetstream.clone(), leaf.clone());
                        config.bus.break_glass = break_glass;
                        config.pid_file = Some(dir.path().join("pid"));
                        let text = config.render().unwrap();
                        let (ok, said) = accepted(&text);
                        assert!(ok, "{said}\n{text}");
                    }
                }
            }
        }
    }
}

#[test]
fn no_rendered_permission_list_is_empty() {
    let mut config = production();
    config.tenants.first_mut().unwrap().users.push(TenantUser {
        key: user(20),
        publish: vec![],
        subscribe: vec![],
    });
    let text = config.render().unwrap();
    let squeezed: String = text.split_whitespace().collect();
    assert!(!squeezed.contains("[]") && !squeezed.contains("{}"), "{text}");
    // Each user states both directions, so neither is left to the server's default, which is everything.
    let users = squeezed.matches("nkey:\"").count();
    for side in ["publish", "subscribe"] {
        let open = format!("{side}{{allow:[");
        let closed = format!("{side}:{{deny:[\">\"]}}");
        assert_eq!(squeezed.matches(&open).count() + squeezed.matches(&closed).count(), users, "{side}");
    }
}

#[test]
fn a_hostile_path_stays_one_string() {
    for hostile in [
        "x\"\nauthorization: { token: \"t\" }\n#",
        "$HOME",
        "include \"/etc/passwd\"",
        "back\\slash\\",
        "\t\r\u{1}\u{7f}",
        "snow ☃ and }{][;,'",
    ] {
        let mut config = development();
        config.pid_file = Some(hostile.into());
        let text = config.render().unwrap();
        assert_eq!(text.lines().count(), development().render().unwrap().lines().count() + 1, "{text}");
        let (ok, said) = accepted(&text);
        assert!(ok, "{said}\n{text}");
    }
}

#[test]
fn quoting_escapes_what_would_end_a_string() {
    assert_eq!(quote("a\"b\\c\nd\u{0}é"), r#""a\"b\\c\x0ad\x00é""#);
}

#[test]
fn hostile_names_are_refused() {
    type Change = fn(&mut NatsConfig, String);
    let changes: [(&str, Change); 6] = [
        ("server name", |config, text| config.server_name = text),
        ("host", |config, text| config.host = text),
        ("subject prefix", |config, text| config.bus.prefix = text),
        ("account", |config, text| config.bus.account = text),
        ("account", |config, text| config.system.account = text),
        ("subject", |config, text| {
            config.tenants.first_mut().unwrap().users.first_mut().unwrap().publish.push(text);
        }),
    ];
    for (what, change) in changes {
        for hostile in ["", "a b", "a\nb", "a\u{0}", "\u{a0}", &"a".repeat(65)] {
            let mut config = production();
            change(&mut config, hostile.to_owned());
            match config.render() {
                Err(ConfigError::Name { what: found, .. }) => assert_eq!(found, what),
                other => panic!("{what} `{hostile}` gave {other:?}"),
            }
        }
    }
    for hostile in ["$G", "$SYS", "a.b", "*", ">", "A\"", "sb.>"] {
        let mut config = development();
        config.bus.account = hostile.into();
        assert!(matches!(config.render(), Err(ConfigError::Name { .. })), "{hostile}");
        let mut config = development();
        config.bus.prefix = hostile.into();
        assert!(matches!(config.render(), Err(ConfigError::Name { .. })), "{hostile}");
    }
}

#[test]
fn what_the_server_would_read_differently_is_refused() {
    let refused = |change: fn(&mut NatsConfig)| {
        let mut config = production();
        change(&mut config);
        config.render().unwrap_err()
    };
    assert!(matches!(refused(|c| c.bus.guards.clear()), ConfigError::Nobody(_)));
    assert!(matches!(refused(|c| c.system.users.clear()), ConfigError::Nobody(_)));
    assert!(matches!(refused(|c| c.bus.break_glass = vec![user(1)]), ConfigError::KeyTwice(_)));
    assert!(matches!(refused(|c| c.system.account = "BUS".into()), ConfigError::AccountTwice(_)));
    assert!(matches!(
        refused(|c| c.monitoring = Some(([0, 0, 0, 0], 8222).into())),
        ConfigError::OpenMonitoring(_)
    ));
    assert!(matches!(refused(|c| c.port = ListenPort::Fixed(0)), ConfigError::Number { .. }));
    assert!(matches!(refused(|c| c.limits.max_payload = 0), ConfigError::Number { .. }));
    assert!(matches!(refused(|c| c.auth_timeout = std::time::Duration::ZERO), ConfigError::Number { .. }));
}

const DEVELOPMENT_HEAD: &str = "\
# nats-server for a Sealbus bus on one machine. `sealbus dev` and `sealbus init` write this file with keys
# filled in; here each @NAME@ stands for a public key:
#
#   @GUARD_NKEY@ @SYSTEM_NKEY@ @BREAK_GLASS_NKEY@ @PUBLISHER_NKEY@   user nkeys (U…)
#   @CALLOUT_ISSUER@                               account nkey (A…)
#   @CALLOUT_XKEY@                                 curve nkey (X…)
#
# Do not listen on anything but loopback with this file: there is no TLS.
# Written by the renderer in broker-guard/src/natsserver; a test keeps the two equal.

";

const PRODUCTION_HEAD: &str = "\
# nats-server for a Sealbus bus in production, with TLS, persistent streams, a leaf listener and another
# tenant on the same server. Leave out what you do not need; each @NAME@ stands for a public key:
#
#   @GUARD_NKEY@ @SYSTEM_NKEY@ @BREAK_GLASS_NKEY@   user nkeys (U…), the guard's two and the on-call engineer's
#   @PUBLISHER_NKEY@                               user nkey (U…) of who publishes policies
#   @CALLOUT_ISSUER@ @CALLOUT_XKEY@                 account nkey (A…) and curve nkey (X…) of the auth callout
#   @LEAF_NKEY@ @TENANT_NKEY@                       user nkeys (U…) of a leaf node and of another tenant
#
# Every server of a cluster has the same accounts and authorization. nats-server 2.11.15, 2.12.7 or later: those
# before let clients spoof identities (CVE-2026-33223, CVE-2026-33246), and the guard refuses to run on them.
# For zones whose agents must show a client certificate, add `ca_file` and `verify: true` to `tls`.
# Written by the renderer in broker-guard/src/natsserver; a test keeps the two equal.

";

/// The templates in `deploy/` are the renderer's own text with placeholders for keys. After a change to the
/// renderer, run this test with `SEALBUS_UPDATE_TEMPLATES=1` and review the difference.
#[test]
fn templates_are_what_the_renderer_writes() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let placeholders = [
        (user(1).to_string(), "@GUARD_NKEY@"),
        (user(2).to_string(), "@SYSTEM_NKEY@"),
        (user(3).to_string(), "@BREAK_GLASS_NKEY@"),
        (user(10).to_string(), "@PUBLISHER_NKEY@"),
        (keys().callout_issuer.to_string(), "@CALLOUT_ISSUER@"),
        (keys().callout_xkey.to_string(), "@CALLOUT_XKEY@"),
        (user(6).to_string(), "@LEAF_NKEY@"),
        (user(7).to_string(), "@TENANT_NKEY@"),
    ];
    let mut with_streams = development();
    with_streams.jetstream =
        Some(JetStream { store_dir: "/tmp/sealbus-dev".into(), max_memory: 64 << 20, max_file: 1 << 30 });
    for (file, head, config) in [
        ("nats-dev.conf", DEVELOPMENT_HEAD, with_streams),
        ("nats-production.conf", PRODUCTION_HEAD, production()),
    ] {
        let path = deploy.join(file);
        let mut text = format!("{head}{}", config.render().unwrap());
        for (key, placeholder) in &placeholders {
            text = text.replace(key, placeholder);
        }
        if std::env::var_os("SEALBUS_UPDATE_TEMPLATES").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap();
        assert!(found == text, "{file} is stale; run this test with SEALBUS_UPDATE_TEMPLATES=1");

        let mut filled = found;
        for (key, placeholder) in &placeholders {
            filled = filled.replace(placeholder, key);
        }
        assert!(!filled.lines().any(|line| !line.starts_with('#') && line.contains('@')), "{filled}");
    }
}
