//! The volumes of pods, a row for each kind that people use.

use serde_json::Value;

use super::text::{Text, bracketed, list, number, or, plain, text};

/// What is told of a kind of volume: its key, its description, and its fields.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Kinds whose fields are told one by one. Behind a bar is what stands where a field is
/// unset; a field with `!` is told of a PersistentVolume alone.
static KINDS: &[Row] = &[
    (
        "hostPath",
        "HostPath (bare host directory volume)",
        &[("Path", "path"), ("HostPathType", "type")],
    ),
    (
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        &[("Medium", "medium"), ("SizeLimit", "sizeLimit|<unset>")],
    ),
    (
        "secret",
        "Secret (a volume populated by a Secret)",
        &[("SecretName", "secretName"), ("Optional", "optional|false")],
    ),
    (
        "configMap",
        "ConfigMap (a volume populated by a ConfigMap)",
        &[("Name", "name"), ("Optional", "optional|false")],
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        &[("Server", "server"), ("Path", "path"), ("ReadOnly", "readOnly|false")],
    ),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &[("ClaimName", "claimName"), ("ReadOnly", "readOnly|false")],
    ),
    (
        "csi",
        "CSI (a Container Storage Interface (CSI) volume source)",
        &[
            ("Driver", "driver"),
            ("FSType", "fsType"),
            ("VolumeHandle", "!volumeHandle"),
            ("ReadOnly", "readOnly|false"),
        ],
    ),
    (
        "local",
        "LocalVolume (a persistent volume backed by local storage on a node)",
        &[("Path", "path")],
    ),
    (
        "image",
        "Image (a container image or OCI artifact)",
        &[("Reference", "reference"), ("PullPolicy", "pullPolicy")],
    ),
    (
        "iscsi",
        "ISCSI (an ISCSI Disk resource that is attached to a kubelet's host machine and then exposed to the pod)",
        &[
            ("TargetPortal", "targetPortal"),
            ("IQN", "iqn"),
            ("Lun", "lun"),
            ("ISCSIInterface", "iscsiInterface"),
            ("FSType", "fsType"),
            ("ReadOnly", "readOnly|false"),
            ("Portals", "portals|[]"),
            ("DiscoveryCHAPAuth", "chapAuthDiscovery|false"),
            ("SessionCHAPAuth", "chapAuthSession|false"),
            ("SecretRef", "secretRef|nil"),
            ("InitiatorName", "initiatorName|<none>"),
        ],
    ),
    (
        "fc",
        "FC (a Fibre Channel disk)",
        &[
            ("TargetWWNs", "targetWWNs"),
            ("LUN", "lun|<none>"),
            ("FSType", "fsType"),
            ("ReadOnly", "readOnly|false"),
        ],
    ),
    (
        "cephfs",
        "CephFS (a CephFS mount on the host that shares a pod's lifetime)",
        &[
            ("Monitors", "monitors|[]"),
            ("Path", "path"),
            ("User", "user"),
            ("SecretFile", "secretFile"),
            ("SecretRef", "secretRef|nil"),
            ("ReadOnly", "readOnly|false"),
        ],
    ),
    (
        "rbd",
        "RBD (a Rados Block Device mount on the host that shares a pod's lifetime)",
        &[
            ("CephMonitors", "monitors|[]"),
            ("RBDImage", "image"),
            ("FSType", "fsType"),
            ("RBDPool", "pool"),
            ("RadosUser", "user"),
            ("Keyring", "keyring"),
            ("SecretRef", "secretRef|nil"),
            ("ReadOnly", "readOnly|false"),
        ],
    ),
    (
        "flexVolume",
        "FlexVolume (a generic volume resource that is provisioned/attached using an exec based plugin)",
        &[
            ("Driver", "driver"),
            ("FSType", "fsType"),
            ("SecretRef", "secretRef|nil"),
            ("ReadOnly", "readOnly|false"),
            ("Options", "options|map[]"),
        ],
    ),
    (
        "gitRepo",
        "GitRepo (a volume that is pulled from git when the pod is created)",
        &[("Repository", "repository"), ("Revision", "revision")],
    ),
    (
        "azureFile",
        "AzureFile (an Azure File Service mount on the host and bind mount to the pod)",
        &[
            ("SecretName", "secretName"),
            ("SecretNamespace", "!secretNamespace"),
            ("ShareName", "shareName"),
            ("ReadOnly", "readOnly|false"),
        ],
    ),
    (
        "azureDisk",
        "AzureDisk (an Azure Data Disk mount on the host and bind mount to the pod)",
        &[
            ("DiskName", "diskName"),
            ("DiskURI", "diskURI"),
            ("Kind", "kind"),
            ("FSType", "fsType"),
            ("CachingMode", "cachingMode"),
            ("ReadOnly", "readOnly|false"),
        ],
    ),
    (
        "awsElasticBlockStore",
        "AWSElasticBlockStore (a Persistent Disk resource in AWS)",
        &[
            ("VolumeID", "volumeID"),
            ("FSType", "fsType"),
            ("Partition", "partition|0"),
            ("ReadOnly", "readOnly|false"),
        ],
    ),
    (
        "gcePersistentDisk",
        "GCEPersistentDisk (a Persistent Disk resource in Google Compute Engine)",
        &[
            ("PDName", "pdName"),
            ("FSType", "fsType"),
            ("Partition", "partition|0"),
            ("ReadOnly", "readOnly|false"),
        ],
    ),
    (
        "vsphereVolume",
        "vSphereVolume (a Persistent Disk resource in vSphere)",
        &[
            ("VolumePath", "volumePath"),
            ("FSType", "fsType"),
            ("StoragePolicyName", "storagePolicyName"),
        ],
    ),
    ("portworxVolume", "PortworxVolume (a Portworx Volume resource)", &[("VolumeID", "volumeID")]),
    (
        "cinder",
        "Cinder (a Persistent Disk resource in OpenStack)",
        &[
            ("VolumeID", "volumeID"),
            ("FSType", "fsType"),
            ("ReadOnly", "readOnly|false"),
            ("SecretRef", "secretRef|nil"),
        ],
    ),
];

/// All volumes of a pod, or of a template.
pub(crate) fn all(out: &mut Text, volumes: &Value, in_template: bool) {
    let level = usize::from(in_template);
    if list(volumes).next().is_none() {
        return out.line(level, "Volumes:\t<none>");
    }
    out.line(level, "Volumes:");
    for volume in list(volumes) {
        let name = text(&volume["name"]);
        out.line(1, format!("{}{name}:", if in_template { " " } else { "" }));
        source(out, volume, 2);
    }
}

/// What a volume is made of.
pub(crate) fn source(out: &mut Text, volume: &Value, level: usize) {
    if volume["projected"].is_object() {
        return projected(out, &volume["projected"], level);
    }
    if volume["downwardAPI"].is_object() {
        out.line(level, "Type:\tDownwardAPI (a volume populated by information about the pod)");
        out.line(level, "Items:");
        for item in list(&volume["downwardAPI"]["items"]) {
            for (from, key) in [("fieldRef", "fieldPath"), ("resourceFieldRef", "resource")] {
                if item[from].is_object() {
                    let line = format!("{} -> {}", text(&item[from][key]), text(&item["path"]));
                    out.line(level + 1, line);
                }
            }
        }
        return;
    }
    if volume["ephemeral"].is_object() {
        out.line(level, "Type:\tEphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)");
        let claim = &volume["ephemeral"]["volumeClaimTemplate"]["spec"];
        out.line(level, format!("StorageClass:\t{}", text(&claim["storageClassName"])));
        out.line(level, format!("Volume:\t{}", text(&claim["volumeName"])));
        let meta = &volume["ephemeral"]["volumeClaimTemplate"]["metadata"];
        out.inner_labels(level, "Labels", &meta["labels"]);
        out.inner_labels(level, "Annotations", &meta["annotations"]);
        // A template is bound to nothing, which would say both.
        out.line(level, "Capacity:\t");
        out.line(level, "Access Modes:\t");
        return out.some(level, "VolumeMode", &claim["volumeMode"]);
    }
    let Some((key, kind, fields)) = KINDS.iter().find(|(key, ..)| volume[*key].is_object()) else {
        return out.line(level, "<unknown>");
    };
    out.line(level, format!("Type:\t{kind}"));
    // Volumes of pods have no size.
    let is_persistent = volume["capacity"].is_object();
    for (label, field) in *fields {
        let (field, unset) = field.split_once('|').unwrap_or((field, ""));
        let field = match field.strip_prefix('!') {
            Some(_) if !is_persistent => continue,
            Some(field) => field,
            None => field,
        };
        let value = match (&volume[*key][field], *label) {
            (Value::Array(_), "TargetWWNs") => {
                list(&volume[*key][field]).map(plain).collect::<Vec<_>>().join(", ")
            }
            (list @ Value::Array(_), _) => bracketed(list),
            (Value::Object(map), "SecretRef") => reference(map, is_persistent),
            (Value::Object(map), _) => {
                let pairs: Vec<String> =
                    map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
                format!("map[{}]", pairs.join(" "))
            }
            (value, _) => or(value, unset),
        };
        // Upstream forgot the colon of one.
        let colon = if *label == "ISCSIInterface" { "" } else { ":" };
        out.line(level, format!("{label}{colon}\t{value}"));
    }
    if *key == "csi" {
        let attributes = &volume["csi"]["volumeAttributes"];
        match attributes.as_object().is_none_or(serde_json::Map::is_empty) {
            true => out.line(level, "VolumeAttributes:\t<none>"),
            false => out.inner_labels(level, "VolumeAttributes", attributes),
        }
    }
}

/// Where a secret is, in the words that Go has for such a thing.
fn reference(map: &serde_json::Map<String, Value>, is_persistent: bool) -> String {
    let part = |key: &str| map.get(key).map(plain).unwrap_or_default();
    match is_persistent {
        true => {
            format!("&SecretReference{{Name:{},Namespace:{},}}", part("name"), part("namespace"))
        }
        false => format!("&LocalObjectReference{{Name:{},}}", part("name")),
    }
}

fn projected(out: &mut Text, projected: &Value, level: usize) {
    out.line(
        level,
        "Type:\tProjected (a volume that contains injected data from multiple sources)",
    );
    for source in list(&projected["sources"]) {
        let (secret, config, token) =
            (&source["secret"], &source["configMap"], &source["serviceAccountToken"]);
        if secret.is_object() {
            out.line(level, format!("SecretName:\t{}", text(&secret["name"])));
            out.line(level, format!("Optional:\t{}", secret["optional"] == true));
        } else if source["downwardAPI"].is_object() {
            out.line(level, "DownwardAPI:\ttrue");
        } else if config.is_object() {
            out.line(level, format!("ConfigMapName:\t{}", text(&config["name"])));
            out.line(level, format!("Optional:\t{}", config["optional"] == true));
        } else if token.is_object() {
            let seconds = number(&token["expirationSeconds"]);
            out.line(level, format!("TokenExpirationSeconds:\t{seconds}"));
        }
    }
}
