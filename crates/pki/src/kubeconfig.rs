//! The file that kubectl reads, with everything embedded.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::Issued;

/// A kubeconfig whose only cluster, user and context are called `default`, as
/// with k3s. The key in it is a secret: write it with mode 0600.
pub fn render(server_url: &str, server_ca_pem: &str, user: &Issued) -> String {
    // A JSON string is a YAML string, whatever is in it.
    let server = serde_json::Value::from(server_url);
    let ca = STANDARD.encode(server_ca_pem);
    let certificate = STANDARD.encode(&user.certificate_pem);
    let key = STANDARD.encode(&user.key_pem);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    certificate-authority-data: {ca}
    server: {server}
contexts:
- name: default
  context:
    cluster: default
    user: default
current-context: default
preferences: {{}}
users:
- name: default
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
"
    )
}
