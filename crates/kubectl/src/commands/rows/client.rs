//! What tells of the server and of this client, and changes its configuration.

use super::{OUTPUT, OUTPUT_NAME, row};
use crate::commands::{Command, about, complete, config, dump, kuberc, plugin};

/// The rows.
pub(super) static ROWS: &[Command] = &[
    row(
        "api-resources",
        "",
        "Print the supported API resources on the server",
        &[about::API_RESOURCES],
        run!(about::api_resources),
    ),
    row(
        "api-versions",
        "",
        "Print the supported API versions on the server, in the form of \"group/version\"",
        &[],
        run!(about::api_versions),
    ),
    row("cluster-info", "", "Display cluster information", &[], run!(about::cluster_info)),
    row(
        "cluster-info dump",
        "",
        "Dump relevant information for debugging and diagnosis",
        &[dump::FLAGS],
        run!(dump::run),
    ),
    row(
        "version",
        "",
        "Print the client and server version information",
        &[about::VERSION],
        run!(about::version),
    ),
    row(
        "explain",
        "TYPE [--recursive=FALSE|TRUE] [--api-version=api-version-group]",
        "Get documentation for a resource",
        &[about::EXPLAIN],
        run!(about::explain),
    ),
    row(
        "config view",
        "",
        "Display merged kubeconfig settings or a specified kubeconfig file",
        &[config::VIEW, OUTPUT],
        run!(config::view),
    ),
    row(
        "config current-context",
        "",
        "Display the current-context",
        &[],
        run!(config::current_context),
    ),
    row(
        "config get-contexts",
        "[(-o|--output=)name)]",
        "Describe one or many contexts",
        &[config::GET_CONTEXTS, OUTPUT_NAME],
        run!(config::get_contexts),
    ),
    row(
        "config get-clusters",
        "",
        "Display clusters defined in the kubeconfig",
        &[],
        run!(config::get_clusters),
    ),
    row(
        "config get-users",
        "",
        "Display users defined in the kubeconfig",
        &[],
        run!(config::get_users),
    ),
    Command {
        aliases: &["use"],
        ..row(
            "config use-context",
            "CONTEXT_NAME",
            "Set the current-context in a kubeconfig file",
            &[],
            run!(config::use_context),
        )
    },
    row(
        "config set-context",
        "[NAME | --current] [--cluster=…] [--user=…] [--namespace=…]",
        "Set a context entry in kubeconfig",
        &[config::SET_CONTEXT],
        run!(config::set_context),
    ),
    row(
        "config set-cluster",
        "NAME [--server=…] [--certificate-authority=…]",
        "Set a cluster entry in kubeconfig",
        &[config::SET_CLUSTER],
        run!(config::set_cluster),
    ),
    row(
        "config set-credentials",
        "NAME [--client-certificate=…] [--client-key=…] [--token=…]",
        "Set a user entry in kubeconfig",
        &[config::SET_CREDENTIALS],
        run!(config::set_credentials),
    ),
    row(
        "config delete-context",
        "NAME",
        "Delete the specified context from the kubeconfig",
        &[],
        run!(config::delete_context),
    ),
    row(
        "config delete-cluster",
        "NAME",
        "Delete the specified cluster from the kubeconfig",
        &[],
        run!(config::delete_cluster),
    ),
    row(
        "config delete-user",
        "NAME",
        "Delete the specified user from the kubeconfig",
        &[],
        run!(config::delete_user),
    ),
    row(
        "config rename-context",
        "CONTEXT_NAME NEW_NAME",
        "Rename a context from the kubeconfig file",
        &[],
        run!(config::rename_context),
    ),
    row(
        "config set",
        "PROPERTY_NAME PROPERTY_VALUE",
        "Set an individual value in a kubeconfig file",
        &[config::SET],
        run!(config::set),
    ),
    row(
        "config unset",
        "PROPERTY_NAME",
        "Unset an individual value in a kubeconfig file",
        &[],
        run!(config::unset),
    ),
    row(
        "kuberc view",
        "",
        "Display the current kuberc configuration",
        &[OUTPUT],
        run!(kuberc::view),
    ),
    row(
        "kuberc set",
        "--section (defaults|aliases|credentialplugin) --command COMMAND",
        "Set values in the kuberc configuration",
        &[kuberc::SET],
        run!(kuberc::set),
    ),
    row(
        "plugin list",
        "",
        "List all visible plugin executables on a user's PATH",
        &[plugin::FLAGS],
        run!(plugin::list),
    ),
    row(
        "completion",
        "SHELL",
        "Output shell completion code for the specified shell (bash, zsh, fish, or powershell)",
        &[],
        run!(complete::script),
    ),
    row("options", "", "Print the list of flags inherited by all commands", &[], run!(options)),
];

async fn options(session: &crate::session::Session) -> crate::failure::Outcome {
    session.out(&super::super::help::options())
}
