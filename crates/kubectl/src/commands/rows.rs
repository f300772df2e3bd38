//! The table of commands.

use super::{
    Command, about, auth, certificate, complete, config, cp, create, debug, delete, describe, diff,
    dump, edit, events, exec, forward, generate, get, logs, modify, node, plugin, proxy, rollout,
    run, set, top, wait,
};
use crate::{
    apply,
    flags::{Flag, switch, value},
};

/// Objects in files.
static FILES: &[Flag] = &[
    value("filename", "FILES", "Filename, directory, or URL to files that contain the resources")
        .short('f'),
    value("kustomize", "DIR", "Not known to this kubectl: it is refused").short('k'),
    switch("recursive", "Process the directory used in -f, --filename recursively").short('R'),
];

/// Objects by selectors.
static SELECT: &[Flag] = &[
    value("selector", "LABELS", "Selector (label query) to filter on").short('l'),
    value("field-selector", "FIELDS", "Selector (field query) to filter on"),
    switch("all-namespaces", "If present, list the requested object(s) across all namespaces")
        .short('A'),
];

/// Objects by their labels.
static SELECT_LABELS: &[Flag] =
    &[value("selector", "LABELS", "Selector (label query) to filter on").short('l')];

/// How objects are printed.
static OUTPUT: &[Flag] = &[
    value("output", "FORMAT", "Output format: json, yaml, kyaml, name, wide, jsonpath=…, jsonpath-file=…, go-template=…, custom-columns=… and others").short('o'),
    value("template", "TEXT", "Template string or path to template file to use with -o"),
    switch("show-managed-fields", "If true, keep the managedFields when printing objects"),
];

const fn row(
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    flags: &'static [&'static [Flag]],
    run: super::Run,
) -> Command {
    Command { name, aliases: &[], arguments, help, flags, run }
}

/// An async function as a row's.
macro_rules! run {
    ($path:path) => {
        |session| Box::pin($path(session))
    };
}

/// A generator as a row's.
macro_rules! generated {
    ($make:path) => {
        |session| Box::pin(generate::create(session, $make(&session.flags)))
    };
}

/// All commands, those of a group together.
pub(crate) static COMMANDS: &[Command] = &[
    row(
        "get",
        "(TYPE[.VERSION][.GROUP] [NAME | -l label] | TYPE/NAME ...)",
        "Display one or many resources",
        &[get::FLAGS, FILES, SELECT, OUTPUT],
        run!(get::run),
    ),
    row(
        "describe",
        "(-f FILENAME | TYPE [NAME_PREFIX | -l label] | TYPE/NAME)",
        "Show details of a specific resource or group of resources",
        &[describe::FLAGS, FILES, SELECT],
        run!(describe::run),
    ),
    row(
        "apply",
        "-f FILENAME",
        "Apply a configuration to a resource by file name or stdin",
        &[apply::FLAGS, FILES, OUTPUT, create::WRITE, create::VALIDATE],
        run!(apply::run),
    ),
    row(
        "create",
        "-f FILENAME",
        "Create a resource from a file or from stdin",
        &[create::CREATE, FILES, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        run!(create::run),
    ),
    row(
        "replace",
        "-f FILENAME",
        "Replace a resource by file name or stdin",
        &[create::REPLACE, FILES, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        run!(create::replace),
    ),
    row(
        "delete",
        "([-f FILENAME] | TYPE [(NAME | -l label | --all)])",
        "Delete resources by file names, stdin, resources and names, or by resources and label selector",
        &[
            delete::FLAGS,
            FILES,
            SELECT,
            &[
                value(
                    "output",
                    "name",
                    "Output mode. Use \"-o name\" for shorter output (resource/name)",
                )
                .short('o'),
                value(
                    "dry-run",
                    "none|server|client",
                    "Only print what would be deleted, or have the server go through it",
                )
                .optional("unchanged")
                .or("none"),
            ],
        ],
        run!(delete::run),
    ),
    row(
        "label",
        "[--overwrite] (-f FILENAME | TYPE NAME) KEY_1=VAL_1 ... KEY_N-",
        "Update the labels on a resource",
        &[modify::KEYS, FILES, SELECT, OUTPUT, create::WRITE],
        run!(modify::label),
    ),
    row(
        "annotate",
        "[--overwrite] (-f FILENAME | TYPE NAME) KEY_1=VAL_1 ... KEY_N-",
        "Update the annotations on a resource",
        &[modify::KEYS, FILES, SELECT, OUTPUT, create::WRITE],
        run!(modify::annotate),
    ),
    row(
        "taint",
        "NODE NAME KEY_1=VAL_1:TAINT_EFFECT_1 ... KEY_N:TAINT_EFFECT_N-",
        "Update the taints on one or more nodes",
        &[modify::TAINT, SELECT_LABELS, OUTPUT, create::WRITE],
        run!(modify::taint),
    ),
    row(
        "patch",
        "(-f FILENAME | TYPE NAME) [-p PATCH|--patch-file FILE]",
        "Update fields of a resource",
        &[modify::PATCH, FILES, OUTPUT, create::WRITE],
        run!(modify::run_patch),
    ),
    row(
        "scale",
        "--replicas=COUNT (-f FILENAME | TYPE NAME)",
        "Set a new size for a deployment, replica set, or replication controller",
        &[modify::SCALE, FILES, SELECT_LABELS, OUTPUT, create::WRITE],
        run!(modify::scale),
    ),
    row(
        "set image",
        "(-f FILENAME | TYPE NAME) CONTAINER_NAME_1=CONTAINER_IMAGE_1 ...",
        "Update existing container image(s) of resources",
        &[set::SET, FILES, SELECT, OUTPUT, create::WRITE],
        run!(set::image),
    ),
    row(
        "set env",
        "RESOURCE/NAME KEY_1=VAL_1 ... KEY_N-",
        "Update environment variables on a pod template",
        &[set::SET, set::CONTAINERS, set::ENV, FILES, SELECT, OUTPUT, create::WRITE],
        run!(set::env),
    ),
    row(
        "set resources",
        "(-f FILENAME | TYPE NAME) [--limits=LIMITS] [--requests=REQUESTS]",
        "Update resource requests/limits on objects with pod templates",
        &[set::SET, set::CONTAINERS, set::RESOURCES, FILES, SELECT, OUTPUT, create::WRITE],
        run!(set::resources),
    ),
    row(
        "set selector",
        "(-f FILENAME | TYPE NAME) EXPRESSIONS [--resource-version=VERSION]",
        "Set the selector on a resource",
        &[set::SET, set::SELECTOR, FILES, SELECT, OUTPUT, create::WRITE],
        run!(set::selector),
    ),
    Command {
        aliases: &["sa"],
        ..row(
            "set serviceaccount",
            "(-f FILENAME | TYPE NAME) SERVICE_ACCOUNT",
            "Update the service account of a resource",
            &[set::SET, FILES, OUTPUT, create::WRITE],
            run!(set::service_account),
        )
    },
    row(
        "set subject",
        "(-f FILENAME | TYPE NAME) [--user=NAME] [--group=NAME] [--serviceaccount=NAMESPACE:NAME]",
        "Update the user, group, or service account in a role binding or cluster role binding",
        &[set::SET, set::SUBJECT, FILES, SELECT, OUTPUT, create::WRITE],
        run!(set::subject),
    ),
    row(
        "rollout status",
        "(TYPE NAME | TYPE/NAME)",
        "Show the status of the rollout",
        &[rollout::STATUS, FILES, SELECT_LABELS],
        run!(rollout::status),
    ),
    row(
        "rollout history",
        "(TYPE NAME | TYPE/NAME)",
        "View rollout history",
        &[rollout::REVISION, FILES, SELECT_LABELS, OUTPUT],
        run!(rollout::history),
    ),
    row(
        "rollout undo",
        "(TYPE NAME | TYPE/NAME)",
        "Undo a previous rollout",
        &[rollout::UNDO, FILES, SELECT_LABELS, OUTPUT, create::WRITE],
        run!(rollout::undo),
    ),
    row(
        "rollout restart",
        "(TYPE NAME | TYPE/NAME)",
        "Restart a resource",
        &[FILES, SELECT_LABELS, OUTPUT, create::WRITE],
        run!(rollout::restart),
    ),
    row(
        "rollout pause",
        "(TYPE NAME | TYPE/NAME)",
        "Mark the provided resource as paused",
        &[FILES, SELECT_LABELS, OUTPUT, create::WRITE],
        run!(rollout::pause),
    ),
    row(
        "rollout resume",
        "(TYPE NAME | TYPE/NAME)",
        "Resume a paused resource",
        &[FILES, SELECT_LABELS, OUTPUT, create::WRITE],
        run!(rollout::resume),
    ),
    row(
        "cordon",
        "NODE",
        "Mark node as unschedulable",
        &[SELECT_LABELS, OUTPUT, create::WRITE],
        run!(node::cordon),
    ),
    row(
        "uncordon",
        "NODE",
        "Mark node as schedulable",
        &[SELECT_LABELS, OUTPUT, create::WRITE],
        run!(node::uncordon),
    ),
    row(
        "drain",
        "NODE",
        "Drain node in preparation for maintenance",
        &[node::DRAIN, SELECT_LABELS, OUTPUT, create::WRITE],
        run!(node::drain),
    ),
    row(
        "logs",
        "[-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]",
        "Print the logs for a container in a pod or specified resource",
        &[logs::FLAGS],
        run!(logs::run),
    ),
    row(
        "exec",
        "(POD | TYPE/NAME) [-c CONTAINER] [flags] -- COMMAND [args...]",
        "Execute a command in a container",
        &[exec::FLAGS, exec::FILE],
        run!(exec::exec),
    ),
    row(
        "cp",
        "SOURCE DESTINATION",
        "Copy files and directories to and from containers ([NAMESPACE/]POD:PATH)",
        &[cp::FLAGS],
        run!(cp::run),
    ),
    row(
        "edit",
        "(TYPE/NAME ... | -f FILENAME)",
        "Edit a resource in the editor of KUBE_EDITOR or EDITOR",
        &[edit::FLAGS, FILES, OUTPUT, create::VALIDATE],
        run!(edit::run),
    ),
    row(
        "diff",
        "-f FILENAME",
        "Diff the live version against what an apply would make of it",
        &[diff::FLAGS, FILES],
        run!(diff::run),
    ),
    Command {
        name: "top node",
        aliases: &["nodes", "no"],
        arguments: "[NAME | -l label]",
        help: "Display resource (CPU/memory) usage of nodes",
        flags: &[top::FLAGS],
        run: run!(top::node),
    },
    Command {
        name: "top pod",
        aliases: &["pods", "po"],
        arguments: "[NAME | -l label]",
        help: "Display resource (CPU/memory) usage of pods",
        flags: &[top::FLAGS],
        run: run!(top::pod),
    },
    row(
        "debug",
        "(POD | TYPE/NAME) [ -- COMMAND [args...] ]",
        "Create debugging sessions for troubleshooting workloads and nodes",
        &[debug::FLAGS],
        run!(debug::run),
    ),
    row(
        "attach",
        "(POD | TYPE/NAME) [-c CONTAINER]",
        "Attach to a running container",
        &[exec::FLAGS],
        run!(exec::attach),
    ),
    Command {
        aliases: &["ns"],
        ..row(
            "create namespace",
            "NAME",
            "Create a namespace with the specified name",
            &[OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
            generated!(generate::namespace),
        )
    },
    Command {
        aliases: &["sa"],
        ..row(
            "create serviceaccount",
            "NAME",
            "Create a service account with the specified name",
            &[OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
            generated!(generate::service_account),
        )
    },
    Command {
        aliases: &["cm"],
        ..row(
            "create configmap",
            "NAME [--from-file=[key=]source] [--from-literal=key1=value1]",
            "Create a config map from a local file, directory or literal value",
            &[generate::DATA, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
            generated!(generate::config_map),
        )
    },
    row(
        "create secret generic",
        "NAME [--type=string] [--from-file=[key=]source] [--from-literal=key1=value1]",
        "Create a secret from a local file, directory, or literal value",
        &[
            generate::DATA,
            generate::SECRET_TYPE,
            OUTPUT,
            create::WRITE,
            create::VALIDATE,
            create::SAVE_CONFIG,
        ],
        generated!(generate::secret_generic),
    ),
    row(
        "create secret tls",
        "NAME --cert=path/to/cert/file --key=path/to/key/file",
        "Create a TLS secret",
        &[generate::TLS, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::secret_tls),
    ),
    row(
        "create secret docker-registry",
        "NAME --docker-username=user --docker-password=password [--docker-server=string]",
        "Create a secret for use with a Docker registry",
        &[
            generate::DATA,
            generate::DOCKER,
            OUTPUT,
            create::WRITE,
            create::VALIDATE,
            create::SAVE_CONFIG,
        ],
        generated!(generate::secret_docker),
    ),
    Command {
        aliases: &["deploy"],
        ..row(
            "create deployment",
            "NAME --image=image -- [COMMAND] [args...]",
            "Create a deployment with the specified name",
            &[generate::DEPLOYMENT, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
            generated!(generate::deployment),
        )
    },
    Command {
        aliases: &["cj"],
        ..row(
            "create cronjob",
            "NAME --image=image --schedule='0/5 * * * ?' -- [COMMAND] [args...]",
            "Create a cron job with the specified name",
            &[generate::CRON_JOB, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
            generated!(generate::cron_job),
        )
    },
    row(
        "create rolebinding",
        "NAME --clusterrole=NAME|--role=NAME [--user=username] [--serviceaccount=namespace:name]",
        "Create a role binding for a particular role or cluster role",
        &[
            generate::SUBJECTS,
            generate::BINDING,
            OUTPUT,
            create::WRITE,
            create::VALIDATE,
            create::SAVE_CONFIG,
        ],
        generated!(generate::role_binding),
    ),
    row(
        "create clusterrolebinding",
        "NAME --clusterrole=NAME [--user=username] [--serviceaccount=namespace:name]",
        "Create a cluster role binding for a particular cluster role",
        &[generate::SUBJECTS, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::cluster_role_binding),
    ),
    row(
        "create service clusterip",
        "NAME [--tcp=<port>:<targetPort>]",
        "Create a ClusterIP service",
        &[generate::SERVICE, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::service_cluster_ip),
    ),
    row(
        "create service nodeport",
        "NAME [--tcp=<port>:<targetPort>]",
        "Create a NodePort service",
        &[generate::SERVICE, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::service_node_port),
    ),
    row(
        "create service loadbalancer",
        "NAME [--tcp=port:targetPort]",
        "Create a LoadBalancer service",
        &[generate::SERVICE, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::service_load_balancer),
    ),
    row(
        "create service externalname",
        "NAME --external-name external.name",
        "Create an ExternalName service",
        &[generate::SERVICE, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::service_external_name),
    ),
    Command {
        aliases: &["ing"],
        ..row(
            "create ingress",
            "NAME --rule=host/path=service:port[,tls[=secret]]",
            "Create an ingress with the specified name",
            &[generate::INGRESS, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
            generated!(generate::ingress),
        )
    },
    Command {
        aliases: &["resourcequota"],
        ..row(
            "create quota",
            "NAME [--hard=key1=value1,key2=value2] [--scopes=Scope1,Scope2]",
            "Create a quota with the specified name",
            &[generate::QUOTA, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
            generated!(generate::quota),
        )
    },
    Command {
        aliases: &["pdb"],
        ..row(
            "create poddisruptionbudget",
            "NAME --selector=SELECTOR --min-available=N",
            "Create a pod disruption budget with the specified name",
            &[generate::BUDGET, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
            generated!(generate::disruption_budget),
        )
    },
    Command {
        aliases: &["pc"],
        ..row(
            "create priorityclass",
            "NAME --value=VALUE --global-default=BOOL",
            "Create a priority class with the specified name",
            &[generate::PRIORITY, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
            generated!(generate::priority_class),
        )
    },
    row(
        "create role",
        "NAME --verb=verb --resource=resource.group/subresource",
        "Create a role with single rule",
        &[generate::ROLE, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        run!(generate::role),
    ),
    row(
        "create clusterrole",
        "NAME --verb=verb --resource=resource.group",
        "Create a cluster role",
        &[
            generate::ROLE,
            generate::CLUSTER_ROLE,
            OUTPUT,
            create::WRITE,
            create::VALIDATE,
            create::SAVE_CONFIG,
        ],
        run!(generate::role),
    ),
    row(
        "create job",
        "NAME --image=image [--from=cronjob/name] -- [COMMAND] [args...]",
        "Create a job with the specified name",
        &[generate::JOB, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        run!(generate::run_job),
    ),
    row(
        "create token",
        "SERVICE_ACCOUNT_NAME",
        "Request a service account token",
        &[generate::TOKEN, OUTPUT],
        run!(generate::token),
    ),
    row(
        "run",
        "NAME --image=image [--env=\"key=value\"] [--port=port] -- [COMMAND] [args...]",
        "Run a particular image on the cluster",
        &[run::RUN, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        run!(run::run),
    ),
    row(
        "expose",
        "(-f FILENAME | TYPE NAME) [--port=port] [--target-port=number-or-name]",
        "Take a replication controller, service, deployment or pod and expose it as a new Kubernetes service",
        &[run::EXPOSE, FILES, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        run!(run::expose),
    ),
    row(
        "autoscale",
        "(-f FILENAME | TYPE NAME) [--min=MINPODS] --max=MAXPODS [--cpu-percent=CPU]",
        "Auto-scale a deployment, replica set, stateful set, or replication controller",
        &[run::AUTOSCALE, FILES, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        run!(run::autoscale),
    ),
    row(
        "wait",
        "([-f FILENAME] | TYPE NAME | -l label) --for=…",
        "Wait for a specific condition on one or many resources",
        &[wait::FLAGS, FILES, SELECT, OUTPUT],
        run!(wait::run),
    ),
    row(
        "events",
        "[--for TYPE/NAME] [--watch]",
        "List events",
        &[events::FLAGS, OUTPUT],
        run!(events::run),
    ),
    row(
        "port-forward",
        "TYPE/NAME [LOCAL_PORT:]REMOTE_PORT [...[LOCAL_PORT_N:]REMOTE_PORT_N]",
        "Forward one or more local ports to a pod",
        &[forward::FLAGS],
        run!(forward::run),
    ),
    row(
        "proxy",
        "[--port=PORT] [--www=DIR] [--www-prefix=PREFIX] [--api-prefix=PREFIX]",
        "Run a proxy to the Kubernetes API server",
        &[proxy::FLAGS],
        run!(proxy::run),
    ),
    row(
        "certificate approve",
        "(-f FILENAME | NAME)",
        "Approve a certificate signing request",
        &[certificate::FLAGS, FILES, OUTPUT],
        run!(certificate::approve),
    ),
    row(
        "certificate deny",
        "(-f FILENAME | NAME)",
        "Deny a certificate signing request",
        &[certificate::FLAGS, FILES, OUTPUT],
        run!(certificate::deny),
    ),
    row(
        "auth can-i",
        "VERB [TYPE | TYPE/NAME | NONRESOURCEURL]",
        "Check whether an action is allowed",
        &[auth::CAN_I],
        run!(auth::can_i),
    ),
    row(
        "auth whoami",
        "",
        "Experimental: Check self subject attributes",
        &[OUTPUT],
        run!(auth::whoami),
    ),
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
        &[config::GET_CONTEXTS, OUTPUT],
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
    session.out(&super::help::options())
}
