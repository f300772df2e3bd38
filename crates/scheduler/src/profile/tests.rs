use serde_json::{Value, json};

use super::*;

fn of_plugin(name: &str, args: Value) -> Result<Args, String> {
    let given = json!({"profiles": [{"pluginConfig": [{"name": name, "args": args}]}]});
    Configuration::read(&given).map(|all| all.profiles[0].args.clone())
}

#[test]
fn nothing_said_is_upstreams_default() {
    let all = Configuration::read(&json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
    }))
    .expect("valid");
    let profile = all.profile("").expect("the default one");
    let weights: Vec<_> = profile.scores.iter().map(|(p, weight)| (p.name, *weight)).collect();
    assert_eq!(
        weights,
        [
            ("TaintToleration", 3),
            ("NodeAffinity", 2),
            ("NodeResourcesFit", 1),
            ("PodTopologySpread", 2),
            ("InterPodAffinity", 2),
            ("NodeResourcesBalancedAllocation", 1),
            ("ImageLocality", 1),
        ]
    );
    assert!(profile.preempts && all.profile("mine").is_none());
}

#[test]
fn profiles_change_plugins_and_weights() {
    let all = Configuration::read(&json!({
        "percentageOfNodesToScore": 50,
        "podMaxBackoffSeconds": 20,
        "profiles": [
            {"schedulerName": "default-scheduler"},
            {
                "schedulerName": "packing",
                "percentageOfNodesToScore": 100,
                "plugins": {
                    "score": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodeResourcesFit", "weight": 5}]},
                    "multiPoint": {"disabled": [{"name": "TaintToleration"}, {"name": "DefaultPreemption"}]},
                },
                "pluginConfig": [{"name": "NodeResourcesFit", "args": {
                    "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "NodeResourcesFitArgs",
                    "scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 3}]},
                }}],
            },
        ],
    }))
    .expect("valid");
    let (plain, packing) = (&all.profiles[0], &all.profiles[1]);
    assert_eq!(all.backoff_max, Duration::from_secs(20));
    assert_eq!(plain.percentage_of_nodes_to_score, Some(50));
    assert_eq!(packing.percentage_of_nodes_to_score, Some(100));
    assert_eq!(packing.scores.len(), 1);
    assert_eq!((packing.scores[0].0.name, packing.scores[0].1), ("NodeResourcesFit", 5));
    assert!(!packing.preempts && packing.filters.iter().all(|p| p.name != "TaintToleration"));
    assert_eq!(packing.args.strategy, Strategy::MostAllocated(vec![("cpu".into(), 3)]));
}

/// The second profile is that of upstream's documentation of several profiles.
#[test]
fn a_point_and_its_preparation_go_together() {
    let all = |name: &str| json!({"disabled": [{"name": name}]});
    let read = |plugins: Value| {
        let profiles = json!([
            {"schedulerName": "default-scheduler"},
            {"schedulerName": "no-scoring-scheduler", "plugins": plugins},
        ]);
        Configuration::read(&json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "profiles": profiles,
        }))
    };
    let none = read(json!({"preScore": all("*"), "score": all("*")})).expect("valid");
    assert!(none.profiles[1].scores.is_empty() && !none.profiles[1].filters.is_empty());
    let less = json!({"preFilter": all("NodePorts"), "filter": all("NodePorts")});
    assert!(read(less).expect("valid").profiles[1].filters.iter().all(|p| p.name != "NodePorts"));
    let again = json!({"disabled": [{"name": "*"}], "enabled": [{"name": "ImageLocality"}]});
    let one = read(json!({"preScore": again, "score": again})).expect("valid");
    assert_eq!(one.profiles[1].scores.len(), 1);
    for (plugins, said) in [
        (json!({"preScore": all("NodeAffinity")}), "plugins.preScore: NodeAffinity takes part"),
        (json!({"preFilter": all("NodePorts")}), "in filter: disable it there too"),
        (json!({"preScore": all("*"), "score": again}), "ImageLocality takes part in score"),
    ] {
        let error = read(plugins.clone()).expect_err("wrong");
        assert!(error.contains(said), "{plugins}: {error}");
    }
}

#[test]
fn strategies_score_by_what_is_in_use() {
    let shape = json!([{"utilization": 0, "score": 0}, {"utilization": 50, "score": 10}, {"utilization": 100, "score": 2}]);
    let ratio =
        json!({"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": shape}});
    let of = |strategy: Value| {
        of_plugin("NodeResourcesFit", json!({"scoringStrategy": strategy})).expect("valid").strategy
    };
    let (least, most, ratio) =
        (of(json!({"type": "LeastAllocated"})), of(json!({"type": "MostAllocated"})), of(ratio));
    for (used, wanted) in [
        (0, [100, 0, 0]),
        (25, [75, 25, 50]),
        (50, [50, 50, 100]),
        (75, [25, 75, 60]),
        (120, [0, 100, 20]),
    ] {
        assert_eq!(
            [&least, &most, &ratio].map(|strategy| strategy.score(used, 100)),
            wanted,
            "{used}"
        );
    }
}

/// As a cluster made by others has it, all its defaults written out.
#[test]
fn files_from_elsewhere_are_read() {
    let named = |name: &str| json!({"enabled": [{"name": name}], "disabled": [{"name": "*"}]});
    let all = Configuration::read(&json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "parallelism": 16,
        "leaderElection": {"leaderElect": true, "leaseDuration": "15s"},
        "clientConnection": {"kubeconfig": "/etc/kubernetes/scheduler.conf", "qps": 50},
        "enableProfiling": true,
        "enableContentionProfiling": true,
        "delayCacheUntilActive": false,
        "extenders": [],
        "profiles": [{"plugins": {
            "queueSort": named("PrioritySort"),
            "preEnqueue": {"enabled": [{"name": "SchedulingGates"}]},
            "reserve": {"enabled": [{"name": "VolumeBinding"}]},
            "permit": {},
            "bind": named("DefaultBinder"),
            "postBind": {"disabled": [{"name": "*"}]},
        }}],
    }))
    .expect("valid");
    let nothing_said = Configuration::default();
    let weights = |all: &Configuration| {
        all.profiles[0].scores.iter().map(|(p, weight)| (p.name, *weight)).collect::<Vec<_>>()
    };
    assert_eq!(weights(&all), weights(&nothing_said));
    let told = [
        "parallelism",
        "leaderElection",
        "clientConnection",
        "enableProfiling",
        "enableContentionProfiling",
        "delayCacheUntilActive",
    ];
    assert_eq!(all.without_effect, told);
    assert!(nothing_said.without_effect.is_empty());
}

#[test]
fn what_is_wrong_is_named() {
    let plugins = |set: Value| json!({"profiles": [{"plugins": set}]});
    for (given, said) in [
        (json!({"kind": "Pod"}), "KubeSchedulerConfiguration"),
        (json!({"leaderElected": {}}), "leaderElected"),
        (json!({"extenders": [{"urlPrefix": "http://x"}]}), "extenders"),
        (json!({"percentageOfNodesToScore": 101}), "percentageOfNodesToScore"),
        (json!({"profiles": [{}, {}]}), "twice"),
        (plugins(json!({"score": {"enabled": [{"name": "Nope"}]}})), "Nope"),
        (
            plugins(json!({"score": {"enabled": [{"name": "NodeAffinity", "weight": 101}]}})),
            "weight",
        ),
        (plugins(json!({"score": {"enabled": [{"name": "NodeAffinity", "weigth": 1}]}})), "weigth"),
        (plugins(json!({"preFilters": {}})), "preFilters"),
        (plugins(json!({"bind": {"disabled": [{"name": "*"}]}})), "DefaultBinder"),
        (plugins(json!({"preBind": {"disabled": [{"name": "VolumeBinding"}]}})), "VolumeBinding"),
        (plugins(json!({"permit": {"enabled": [{"name": "Coscheduling"}]}})), "Coscheduling"),
    ] {
        let error = Configuration::read(&given).expect_err("wrong");
        assert!(error.contains(said), "{given}: {error}");
    }
    for (name, args, said) in [
        ("NodeName", json!({}), "takes no arguments"),
        ("NodeResourcesFit", json!({"scoringStrategy": {"type": "Best"}}), "Best"),
        (
            "NodeResourcesFit",
            json!({"scoringStrategy": {"type": "RequestedToCapacityRatio"}}),
            "shape",
        ),
        ("NodeResourcesFit", json!({"scoring": {}}), "scoring"),
        ("InterPodAffinity", json!({"hardPodAffinityWeight": 101}), "hardPodAffinityWeight"),
        (
            "PodTopologySpread",
            json!({"defaultingType": "System", "defaultConstraints": [{}]}),
            "System",
        ),
        ("PodTopologySpread", json!({"defaultConstraints": [{"maxSkew": 0}]}), "maxSkew"),
        (
            "DefaultPreemption",
            json!({"minCandidateNodesPercentage": 101}),
            "minCandidateNodesPercentage",
        ),
    ] {
        let error = of_plugin(name, args).expect_err("wrong");
        assert!(error.contains(said) && error.contains(name), "{error}");
    }
}
