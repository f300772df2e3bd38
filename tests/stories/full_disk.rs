//! Disks without room: what is written is refused with a sentence or goes on by the other
//! servers, what is read goes on, and with room everything does. Where a majority has none
//! there is no leader who could say what the newest is, and reads are refused as well.

use crate::harness::{Segment, World, until};

const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
/// More writes than there is room for in what a server has made ahead.
const WRITES: usize = 60;

/// Writes of 900 kB through a server, until one is refused; the names of those that were
/// not, and what was said.
fn write_until_refused(world: &World, server: &str, names: &mut Vec<String>) -> String {
    let file = world.host(server).path("large");
    std::fs::write(&file, vec![b'x'; 900_000]).expect("our own folder");
    for _ in 0..WRITES {
        let name = format!("large-{}", names.len());
        let from = format!("--from-file=a={}", file.display());
        let run = world.kubectl(server, &format!("create configmap {name} {from}"));
        if !run.success {
            return run.stderr;
        }
        names.push(name);
    }
    panic!("{WRITES} writes of 900 kB fit on a full disk");
}

fn all_are_there(world: &World, servers: &[&str], names: &[String]) {
    for server in servers {
        let stored = world.kubectl(server, "get configmaps -o name").ok().stdout;
        for name in names {
            let line = format!("configmap/{name}");
            assert!(stored.lines().any(|stored| stored == line), "{server}: {name} is gone");
        }
    }
}

/// What `skiff cluster status` says of a server.
fn health(world: &World, of: &str) -> String {
    let rows = world.host(SERVERS[0]).servers();
    let row = rows.iter().find(|row| row["name"] == of);
    row.and_then(|row| row["health"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    let Some(mut world) = World::new() else { return };
    world.add_all(&SERVERS, Segment::A);
    for server in SERVERS {
        world.host_mut(server).small_disk(200);
    }
    world.host_mut(SERVERS[0]).start(&["server"]);
    let mut names = Vec::new();
    a_server_alone(&world, &mut names);

    let token = world.host(SERVERS[0]).read("data/server/token").trim().to_owned();
    let url = format!("https://{}:6443", world.host(SERVERS[0]).address());
    for server in &SERVERS[1..] {
        world.host_mut(server).start(&["server", "--server", &url, "--token", &token]);
    }
    one_of_three(&world, &mut names);
    all_of_three(&world, &mut names);

    // What is on the disks is whole.
    for server in SERVERS {
        world.host_mut(server).kill();
    }
    for server in SERVERS {
        world.host_mut(server).start_again();
    }
    for server in SERVERS {
        world.host_mut(server).wait_ready();
    }
    all_are_there(&world, &SERVERS, &names);
}

fn a_server_alone(world: &World, names: &mut Vec<String>) {
    let server = SERVERS[0];
    world.host(server).fill_disk(true);
    let refused = write_until_refused(world, server, names);
    assert!(refused.contains("the disk of server-1 is full"), "{refused}");
    // The next is refused at once, and reads go on.
    world
        .kubectl(server, "create configmap next --from-literal=a=1")
        .fails_with("writes go on once there is room, and nothing is lost");
    all_are_there(world, &[server], names);
    assert!(health(world, server).contains("is full"), "{}", health(world, server));
    assert!(world.host(server).log().contains("the disk is full"));
    world.host(server).fill_disk(false);
    until("writes go on with room", || {
        world.kubectl(server, "create configmap room --from-literal=a=1").success
    });
    names.push("room".into());
    until("all is well", || health(world, server) == "ok");
    all_are_there(world, &[server], names);
}

/// Whoever leads has no room: the others have.
fn one_of_three(world: &World, names: &mut Vec<String>) {
    let leader = world.leader(SERVERS[0]);
    world.host(&leader).fill_disk(true);
    for _ in 0..2 {
        for server in SERVERS {
            let file = world.host(server).path("large");
            std::fs::write(&file, vec![b'y'; 900_000]).expect("our own folder");
            let name = format!("of-one-{}", names.len());
            let from = format!("--from-file=a={}", file.display());
            until("a majority has room", || {
                let run = world.kubectl(server, &format!("create configmap {name} {from}"));
                run.success || run.stderr.contains("already exists")
            });
            names.push(name);
        }
    }
    until("it is told whose disk is full", || health(world, &leader).contains("is full"));
    all_are_there(world, &SERVERS, names);
    world.host(&leader).fill_disk(false);
    until("it has caught up", || health(world, &leader) == "ok");
    all_are_there(world, &SERVERS, names);
}

fn all_of_three(world: &World, names: &mut Vec<String>) {
    for server in SERVERS {
        world.host(server).fill_disk(true);
    }
    let refused = write_until_refused(world, SERVERS[1], names);
    let told = ["is full", "servers answer"].iter().any(|text| refused.contains(text));
    assert!(told, "{refused}");
    until("it is told whose disks are full", || {
        SERVERS.iter().filter(|server| health(world, server).contains("is full")).count() >= 2
    });
    for server in SERVERS {
        world.host(server).fill_disk(false);
    }
    for server in SERVERS {
        let name = format!("room-of-{server}");
        until("writes go on with room", || {
            let run = world.kubectl(server, &format!("create configmap {name} --from-literal=a=1"));
            run.success || run.stderr.contains("already exists")
        });
        names.push(name);
        until("all is well", || health(world, server) == "ok");
    }
    all_are_there(world, &SERVERS, names);
}
