//! `skiff server`

use std::error::Error;

use super::daemon;
use crate::{
    config::Config,
    flags::{Commands, Values},
    server,
};

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    daemon::no_words(&words)?;
    let host_name = rustix::system::uname();
    let config = Config::new(&values, &host_name.nodename().to_string_lossy())?;
    if config.cluster_reset {
        crate::logging::start(config.machine.verbosity);
        return server::reset(&config).map_err(|error| -> Box<dyn Error> { error });
    }
    let stop = async |handle: server::Handle| handle.stop().await;
    let watched: daemon::Watched<server::Handle> = (server::Handle::again, server::Handle::node);
    daemon::run(Commands::SERVER, config.machine.verbosity, server::start(&config), watched, stop)
}
