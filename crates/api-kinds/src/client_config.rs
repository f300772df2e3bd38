//! Where a webhook is, as definitions and webhook configurations say it.

use api_schema::{Webhook, WebhookService, tree};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

/// Reads a `clientConfig`, and which versions of its review a webhook understands.
///
/// # Errors
/// The certificates are no base64.
pub fn read(config: &Value, review_versions: &[Value]) -> Result<Webhook, String> {
    let bundle = tree::text(config, "caBundle");
    let service = tree::get(config, "service");
    let text = |field| tree::text(service, field).to_owned();
    Ok(Webhook {
        url: tree::text(config, "url").to_owned(),
        service: (!service.is_null()).then(|| WebhookService {
            namespace: text("namespace"),
            name: text("name"),
            path: text("path"),
            port: tree::int(service, "port").and_then(|port| port.try_into().ok()).unwrap_or(443),
        }),
        ca_bundle: STANDARD.decode(bundle).map_err(|error| format!("caBundle: {error}"))?,
        review_versions: review_versions
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    })
}
