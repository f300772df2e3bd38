//! `skiff agent`

use std::error::Error;

use super::daemon;
use crate::{
    agent,
    config::AgentConfig,
    flags::{Commands, Values},
};

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    daemon::no_words(&words)?;
    let host_name = rustix::system::uname();
    let config = AgentConfig::new(&values, &host_name.nodename().to_string_lossy())?;
    let stop = async |handle: agent::Handle| handle.stop().await;
    let watched: daemon::Watched<agent::Handle> = (agent::Handle::again, agent::Handle::node);
    daemon::run(Commands::AGENT, config.machine.verbosity, agent::start(&config), watched, stop)
}
