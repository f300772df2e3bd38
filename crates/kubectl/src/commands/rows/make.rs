//! What makes objects from flags.

use super::{FILES, OUTPUT, row};
use crate::commands::{Command, create, exec, generate, run};

/// The rows.
pub(super) static ROWS: &[Command] = &[
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
            &[generate::data::DATA, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
            generated!(generate::data::config_map),
        )
    },
    row(
        "create secret generic",
        "NAME [--type=string] [--from-file=[key=]source] [--from-literal=key1=value1]",
        "Create a secret from a local file, directory, or literal value",
        &[
            generate::data::DATA,
            generate::data::SECRET_TYPE,
            OUTPUT,
            create::WRITE,
            create::VALIDATE,
            create::SAVE_CONFIG,
        ],
        generated!(generate::data::secret_generic),
    ),
    row(
        "create secret tls",
        "NAME --cert=path/to/cert/file --key=path/to/key/file",
        "Create a TLS secret",
        &[generate::data::TLS, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::data::secret_tls),
    ),
    row(
        "create secret docker-registry",
        "NAME --docker-username=user --docker-password=password [--docker-server=string]",
        "Create a secret for use with a Docker registry",
        &[
            generate::data::DATA,
            generate::data::DOCKER,
            OUTPUT,
            create::WRITE,
            create::VALIDATE,
            create::SAVE_CONFIG,
        ],
        generated!(generate::data::secret_docker),
    ),
    Command {
        aliases: &["deploy"],
        ..row(
            "create deployment",
            "NAME --image=image -- [COMMAND] [args...]",
            "Create a deployment with the specified name",
            &[
                generate::workloads::DEPLOYMENT,
                OUTPUT,
                create::WRITE,
                create::VALIDATE,
                create::SAVE_CONFIG,
            ],
            generated!(generate::workloads::deployment),
        )
    },
    Command {
        aliases: &["cj"],
        ..row(
            "create cronjob",
            "NAME --image=image --schedule='0/5 * * * ?' -- [COMMAND] [args...]",
            "Create a cron job with the specified name",
            &[
                generate::workloads::CRON_JOB,
                OUTPUT,
                create::WRITE,
                create::VALIDATE,
                create::SAVE_CONFIG,
            ],
            generated!(generate::workloads::cron_job),
        )
    },
    row(
        "create rolebinding",
        "NAME --clusterrole=NAME|--role=NAME [--user=username] [--serviceaccount=namespace:name]",
        "Create a role binding for a particular role or cluster role",
        &[
            generate::access::SUBJECTS,
            generate::access::BINDING,
            OUTPUT,
            create::WRITE,
            create::VALIDATE,
            create::SAVE_CONFIG,
        ],
        generated!(generate::access::role_binding),
    ),
    row(
        "create clusterrolebinding",
        "NAME --clusterrole=NAME [--user=username] [--serviceaccount=namespace:name]",
        "Create a cluster role binding for a particular cluster role",
        &[generate::access::SUBJECTS, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::access::cluster_role_binding),
    ),
    row(
        "create service clusterip",
        "NAME [--tcp=<port>:<targetPort>]",
        "Create a ClusterIP service",
        &[generate::network::SERVICE, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::network::service_cluster_ip),
    ),
    row(
        "create service nodeport",
        "NAME [--tcp=<port>:<targetPort>]",
        "Create a NodePort service",
        &[generate::network::SERVICE, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::network::service_node_port),
    ),
    row(
        "create service loadbalancer",
        "NAME [--tcp=port:targetPort]",
        "Create a LoadBalancer service",
        &[generate::network::SERVICE, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::network::service_load_balancer),
    ),
    row(
        "create service externalname",
        "NAME --external-name external.name",
        "Create an ExternalName service",
        &[generate::network::SERVICE, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        generated!(generate::network::service_external_name),
    ),
    Command {
        aliases: &["ing"],
        ..row(
            "create ingress",
            "NAME --rule=host/path=service:port[,tls[=secret]]",
            "Create an ingress with the specified name",
            &[
                generate::network::INGRESS,
                OUTPUT,
                create::WRITE,
                create::VALIDATE,
                create::SAVE_CONFIG,
            ],
            generated!(generate::network::ingress),
        )
    },
    Command {
        aliases: &["resourcequota"],
        ..row(
            "create quota",
            "NAME [--hard=key1=value1,key2=value2] [--scopes=Scope1,Scope2]",
            "Create a quota with the specified name",
            &[
                generate::limits::QUOTA,
                OUTPUT,
                create::WRITE,
                create::VALIDATE,
                create::SAVE_CONFIG,
            ],
            generated!(generate::limits::quota),
        )
    },
    Command {
        aliases: &["pdb"],
        ..row(
            "create poddisruptionbudget",
            "NAME --selector=SELECTOR --min-available=N",
            "Create a pod disruption budget with the specified name",
            &[
                generate::limits::BUDGET,
                OUTPUT,
                create::WRITE,
                create::VALIDATE,
                create::SAVE_CONFIG,
            ],
            generated!(generate::limits::disruption_budget),
        )
    },
    Command {
        aliases: &["pc"],
        ..row(
            "create priorityclass",
            "NAME --value=VALUE --global-default=BOOL",
            "Create a priority class with the specified name",
            &[
                generate::limits::PRIORITY,
                OUTPUT,
                create::WRITE,
                create::VALIDATE,
                create::SAVE_CONFIG,
            ],
            generated!(generate::limits::priority_class),
        )
    },
    row(
        "create role",
        "NAME --verb=verb --resource=resource.group/subresource",
        "Create a role with single rule",
        &[generate::access::ROLE, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        run!(generate::access::role),
    ),
    row(
        "create clusterrole",
        "NAME --verb=verb --resource=resource.group",
        "Create a cluster role",
        &[
            generate::access::ROLE,
            generate::access::CLUSTER_ROLE,
            OUTPUT,
            create::WRITE,
            create::VALIDATE,
            create::SAVE_CONFIG,
        ],
        run!(generate::access::role),
    ),
    row(
        "create job",
        "NAME --image=image [--from=cronjob/name] -- [COMMAND] [args...]",
        "Create a job with the specified name",
        &[generate::workloads::JOB, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        run!(generate::workloads::run_job),
    ),
    row(
        "create token",
        "SERVICE_ACCOUNT_NAME",
        "Request a service account token",
        &[generate::access::TOKEN, OUTPUT],
        run!(generate::access::token),
    ),
    row(
        "run",
        "NAME --image=image [--env=\"key=value\"] [--port=port] -- [COMMAND] [args...]",
        "Run a particular image on the cluster",
        &[run::RUN, exec::DETACH, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
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
        "(-f FILENAME | TYPE NAME) [--min=MINPODS] --max=MAXPODS [--cpu=CPU] [--memory=MEMORY]",
        "Auto-scale a deployment, replica set, stateful set, or replication controller",
        &[run::AUTOSCALE, FILES, OUTPUT, create::WRITE, create::VALIDATE, create::SAVE_CONFIG],
        run!(run::autoscale),
    ),
];
