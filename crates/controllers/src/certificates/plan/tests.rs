use api_types::core::Condition;

use super::*;
use crate::certificates::view::{Spec, Status};

const CREATED: &str = "2026-01-01T00:00:00Z";

/// Made by `openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256`: CN
/// `system:node:pi`, O `system:nodes`, no other names.
const NODE: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIHqMIGSAgEAMDAxFTATBgNVBAoMDHN5c3RlbTpub2RlczEXMBUGA1UEAwwOc3lz
dGVtOm5vZGU6cGkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATeBvaszde6Sh9M
eb+N3pUJsy9EqYRtl4UgSBsTTdI3+Hoi1NoWX9hBtCGoRrfold283XAzG6pp3JsK
5t9Wd1KKoAAwCgYIKoZIzj0EAwIDRwAwRAIgR2WbHk0AAFb0ZMATrjBuHKovBn1Y
TtA7PLExE+gCiukCIGqUb4TsuyAo/KwAhnNPlJmgof8WN0lAh3w3MZ1ZRgke
-----END CERTIFICATE REQUEST-----
";
/// The same with CN `jane`, O `devs`.
const JANE: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIHYMIGAAgEAMB4xDTALBgNVBAoMBGRldnMxDTALBgNVBAMMBGphbmUwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAASoNZ8t0ri5CrsQvg0Tjj84MOjYDo46xjxCpjcn
JBIkIy0B/Sj2ddb2/TMZGF8ntd5uo2sAOAR+sRTpOm4jBmkZoAAwCgYIKoZIzj0E
AwIDRwAwRAIgLDti8PonWvl45P+Jaqz5aZAl/rQZBBH9Bf+7AWAAYasCIEjojWFy
25MMuRZzB2xyl1Es92MzN/eiwIBaxsFpQLK6
-----END CERTIFICATE REQUEST-----
";
/// CN `system:node:pi`, O `system:nodes`, DNS name `pi`.
const SERVING: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIIBDDCBsgIBADAwMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxFzAVBgNVBAMMDnN5
c3RlbTpub2RlOnBpMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0RNXp5lo/cEx
aaHSGj6+0d68ReQLoq135al4khKd+K6yw0ZhcWani/vx1YGcWHrojgtUke275mFD
O1zlIiKu3qAgMB4GCSqGSIb3DQEJDjERMA8wDQYDVR0RBAYwBIICcGkwCgYIKoZI
zj0EAwIDSQAwRgIhAIFNO/jN/q29qfRr0pA+3JqM8wCuIPw4aFqtOobBZhwfAiEA
oJYRKXoeIbUp6f0CKAb/+JpLl93YTS5juikzPAcVx1s=
-----END CERTIFICATE REQUEST-----
";

/// CN `system:kube-proxy` alone.
const PROXY: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIHWMH4CAQAwHDEaMBgGA1UEAwwRc3lzdGVtOmt1YmUtcHJveHkwWTATBgcqhkjO
PQIBBggqhkjOPQMBBwNCAATVhjFvfKauNa0Gq7boUQo50E0MfEsqzADw5JGmzZ90
GT5yDiApE7oOIYKVkJRa5azRRcYzYadmf1yHvZ7IiG1joAAwCgYIKoZIzj0EAwID
SAAwRQIhAKEu315eAtnwLsTBARDo4bzPCZXR8Q6YN/Bo8fe40mg6AiB1UumRhc5I
hw0tP9nQBW9h80ou+kmNcKbcJWdonJ/F8Q==
-----END CERTIFICATE REQUEST-----
";

fn at(hours: i64) -> Timestamp {
    let created: Timestamp = CREATED.parse().expect("a time");
    created + jiff::SignedDuration::from_hours(hours)
}

fn request(pem: &str, signer: &str, auth: &str, user: &str, conditions: &[&str]) -> Request {
    let condition = |kind: &&str| Condition {
        r#type: (*kind).into(),
        status: "True".into(),
        last_update_time: Some(CREATED.into()),
        ..Condition::default()
    };
    Request {
        spec: Spec {
            request: STANDARD.encode(pem),
            signer_name: format!("kubernetes.io/{signer}"),
            usages: vec!["digital signature".into(), auth.into()],
            username: user.into(),
            ..Spec::default()
        },
        status: Status {
            conditions: conditions.iter().map(condition).collect(),
            ..Status::default()
        },
    }
}

#[test]
fn requests_are_approved_signed_failed_and_forgotten() {
    const KUBELET: &str = "kube-apiserver-client-kubelet";
    const CLIENT: &str = "kube-apiserver-client";
    const SERVE: &str = "kubelet-serving";
    for (pem, signer, auth, user, conditions, hours, expected) in [
        (NODE, KUBELET, "client auth", "system:node:pi", &[][..], 0, "approve selfnodeclient"),
        (
            NODE,
            KUBELET,
            "client auth",
            "system:bootstrap:x",
            &[],
            0,
            "approve nodeclient unless pi is taken",
        ),
        (PROXY, CLIENT, "client auth", "system:node:pi", &[], 0, "approve nodeproxyclient"),
        (
            SERVING,
            SERVE,
            "server auth",
            "system:node:pi",
            &[],
            0,
            "approve selfnodeserver unless [\"pi\"] [] are not pi's",
        ),
        (PROXY, CLIENT, "server auth", "system:node:pi", &[], 0, "wait 24h"),
        (PROXY, KUBELET, "client auth", "system:node:pi", &[], 0, "wait 24h"),
        (NODE, KUBELET, "server auth", "system:node:pi", &[], 0, "wait 24h"),
        (JANE, KUBELET, "client auth", "system:node:pi", &[], 0, "wait 24h"),
        (SERVING, KUBELET, "client auth", "system:node:pi", &[], 0, "wait 24h"),
        // Nobody approves these but people.
        (JANE, CLIENT, "client auth", "jane", &[], 23, "wait 1h"),
        (SERVING, SERVE, "server auth", "system:node:other", &[], 0, "wait 24h"),
        (SERVING, SERVE, "server auth", "jane", &[], 0, "wait 24h"),
        (SERVING, SERVE, "client auth", "system:node:pi", &[], 0, "wait 24h"),
        (NODE, SERVE, "server auth", "system:node:pi", &[], 0, "wait 24h"),
        (JANE, CLIENT, "client auth", "jane", &[], 24, "delete"),
        (JANE, CLIENT, "client auth", "jane", &["Approved"], 0, "sign Clients"),
        (NODE, KUBELET, "client auth", "x", &["Approved"], 0, "sign Clients"),
        (SERVING, SERVE, "server auth", "x", &["Approved"], 0, "sign Servers"),
        (
            JANE,
            CLIENT,
            "server auth",
            "jane",
            &["Approved"],
            0,
            "fail invalid usage for client certificate: server auth",
        ),
        (
            JANE,
            KUBELET,
            "client auth",
            "jane",
            &["Approved"],
            0,
            "fail subject organization is not system:nodes",
        ),
        (
            SERVING,
            KUBELET,
            "client auth",
            "x",
            &["Approved"],
            0,
            "fail DNS subjectAltNames are not allowed",
        ),
        (
            NODE,
            SERVE,
            "server auth",
            "x",
            &["Approved"],
            0,
            "fail DNS or IP subjectAltName is required",
        ),
        (JANE, SERVE, "server auth", "x", &["Approved"], 0, "fail subject organization"),
        ("junk", CLIENT, "client auth", "x", &["Approved"], 0, "fail no certificate request"),
        // Others have signers of their own.
        (JANE, "else", "client auth", "jane", &["Approved"], 100, "wait 24h"),
        (JANE, CLIENT, "client auth", "jane", &["Denied"], 0, "wait 1h"),
        (JANE, CLIENT, "client auth", "jane", &["Denied"], 1, "delete"),
        (JANE, CLIENT, "client auth", "jane", &["Approved", "Failed"], 2, "delete"),
    ] {
        let asked = request(pem, signer, auth, user, conditions);
        let found = match plan(&asked, at(0), at(hours)) {
            Action::Wait(left) => format!("wait {}h", left.as_secs() / 3600),
            Action::Approve { if_may, unless, .. } => match unless {
                Unless::Nothing => format!("approve {if_may}"),
                Unless::Taken(claim) => format!("approve {if_may} unless {} is taken", claim.node),
                Unless::Foreign(Served { node, names, addresses }) => {
                    format!("approve {if_may} unless {names:?} {addresses:?} are not {node}'s")
                }
            },
            Action::Sign { issuer, .. } => format!("sign {issuer:?}"),
            Action::Fail(why) => format!("fail {why}"),
            Action::Delete => "delete".to_owned(),
        };
        assert!(found.starts_with(expected), "{signer} {user} {conditions:?}: {found}");
    }
    let mut issued = request(JANE, CLIENT, "client auth", "jane", &["Approved"]);
    issued.status.certificate = "x".into();
    assert_eq!(plan(&issued, at(0), at(0)), Action::Wait(DECIDED_LIFE));
    assert_eq!(plan(&issued, at(0), at(1)), Action::Delete);
}

#[test]
fn a_name_belongs_to_the_key_that_it_joined_with() {
    let asked = request(NODE, "kube-apiserver-client-kubelet", "client auth", "x", &[]);
    let Action::Approve { unless: Unless::Taken(claim), .. } = plan(&asked, at(0), at(0)) else {
        panic!("a claim")
    };
    assert_eq!(claim.refused(None), None);
    let node = |key: &str| BTreeMap::from([(NODE_KEY.to_owned(), key.to_owned())]);
    assert_eq!(claim.refused(Some(&node(&claim.key_hash))), None);
    for other in [BTreeMap::new(), node("another"), node("")] {
        let why = claim.refused(Some(&other)).expect("refused");
        assert!(why.contains("kubectl delete node pi"), "{why}");
    }
}

#[test]
fn a_node_serves_under_its_own_names_only() {
    let nodes: BTreeMap<String, Vec<String>> = [
        ("pi", &["192.0.2.1", "pi", "10.43.0.1", "192.0.2.9"][..]),
        ("other", &["192.0.2.2", "192.0.2.9", "other"]),
        ("web.default.svc", &["192.0.2.3"]),
        ("k8s.example.org", &["192.0.2.4"]),
    ]
    .map(|(name, all)| (name.to_owned(), all.iter().map(|text| (*text).to_owned()).collect()))
    .into();
    let servers = ["kubernetes", "K8s.example.org", "10.43.0.1"].map(str::to_owned);
    for (node, names, addresses, expected) in [
        ("pi", &["pi"][..], &["192.0.2.1"][..], ""),
        ("pi", &[], &["192.0.2.1"], ""),
        ("pi", &["pi", "other"], &[], "\"other\" is not the name"),
        ("pi", &["pi"], &["192.0.2.2"], "192.0.2.2 is not among the addresses"),
        ("pi", &["pi"], &["192.0.2.9"], "192.0.2.9 is an address of node \"other\" too"),
        ("pi", &["pi"], &["10.43.0.1"], "10.43.0.1 is an address of an API server"),
        ("gone", &["gone"], &["192.0.2.1"], "192.0.2.1 is not among the addresses"),
        ("web.default.svc", &["web.default.svc"], &[], "\"web.default.svc\" is a name of the"),
        ("k8s.example.org", &["k8s.example.org"], &[], "\"k8s.example.org\" is a name of the"),
    ] {
        let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let served = Served { node: node.to_owned(), names: all(names), addresses: all(addresses) };
        let why = served.refused(&nodes, &servers).unwrap_or_default();
        assert!(why.starts_with(expected) && why.is_empty() == expected.is_empty(), "{why}");
    }
}

#[test]
fn lives_are_kept_within_bounds() {
    for (asked, hours) in [(None, 8760), (Some(7200), 2), (Some(1 << 40), 8760), (Some(-1), 8760)] {
        assert_eq!(life(asked).as_secs() / 3600, hours, "{asked:?}");
    }
    assert_eq!(life(Some(1)), CERTIFICATE_LIFE_MIN);
}
