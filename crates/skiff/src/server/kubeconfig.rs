//! The administrator's kubeconfig, where the operator wants it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use pki::Pki;

use crate::{StartError, config::Config};

/// Writes it whole or not at all, readable by its owner only (or as
/// `--write-kubeconfig-mode` says).
pub(super) fn write(config: &Config, keys: &Pki) -> Result<(), StartError> {
    let path = &config.kubeconfig;
    let host = match config.bind_address {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    let text = keys.admin_kubeconfig(&format!("https://{host}:{}", config.https_port));
    write_secret(path, &text, config.kubeconfig_mode).map_err(|error| {
        format!(
            "kubeconfig {}: {error}; choose another place with --write-kubeconfig",
            path.display()
        )
        .into()
    })
}

/// Writes a file whole or not at all, with this mode and nobody's before it.
pub(super) fn write_secret(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut new = path.to_path_buf().into_os_string();
    new.push(".new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
