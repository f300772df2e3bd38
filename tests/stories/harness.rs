//! That the harness's faults are faults: each is put on a host, seen to bite, those of the
//! network in the direction that they name and in no other, and seen to be over. Slow disks
//! are looked at by their scenario.

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use crate::harness::{Segment, Spoilt, Way, World, until};

/// Datagrams that are sent each way.
const SENT: u32 = 200;
const PORT: u16 = 7000;
/// Nothing comes so long after what came last.
const QUIET: Duration = Duration::from_millis(500);

/// What arrived, in its order, and how long after the first was sent.
#[derive(Debug)]
struct Heard {
    numbers: Vec<u32>,
    first: Option<Duration>,
}

impl Heard {
    /// Once each; a kernel that hands them from one core to another may change their order.
    fn all(&self) -> bool {
        let mut sorted = self.numbers.clone();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..SENT)
    }

    fn none(&self) -> bool {
        self.numbers.is_empty()
    }

    fn some(&self) -> bool {
        !self.none() && self.numbers.len() < SENT as usize
    }

    fn late(&self) -> bool {
        self.first.is_some_and(|first| first >= Duration::from_millis(LATE_MS.into()))
    }

    /// Every other comes before its elder, where a core's change is seen one time in ten.
    fn reordered(&self) -> bool {
        let earlier = self.numbers.windows(2).filter(|two| two[1] < two[0]).count();
        self.all() && earlier > SENT as usize / 4
    }

    fn doubled(&self) -> bool {
        self.numbers.len() > SENT as usize
    }
}

const LATE_MS: u32 = 100;

/// What is done to host `b`, what undoes it, and what is heard then.
struct Fault {
    name: &'static str,
    begins: fn(&mut World),
    ends: fn(&mut World),
    from_b: fn(&Heard) -> bool,
    to_b: fn(&Heard) -> bool,
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "what it sends does not reach the other",
        begins: |world| world.cut("b", "a"),
        ends: |world| world.heal("b", "a"),
        from_b: Heard::none,
        to_b: Heard::all,
    },
    Fault {
        name: "one packet in three gets lost on it",
        begins: |world| world.lose("b", Some(3)),
        ends: |world| world.lose("b", None),
        from_b: Heard::all,
        to_b: Heard::some,
    },
    Fault {
        name: "packets get lost both ways",
        begins: |world| world.spoil("b", Some(Spoilt { lost_percent: 30, ..Spoilt::default() })),
        ends: |world| world.spoil("b", None),
        from_b: Heard::some,
        to_b: Heard::some,
    },
    Fault {
        name: "packets come twice to it",
        begins: |world| {
            let how = Spoilt { doubled_percent: 50, only: Some(Way::Heard), ..Spoilt::default() };
            world.spoil("b", Some(how));
        },
        ends: |world| world.spoil("b", None),
        from_b: Heard::all,
        to_b: Heard::doubled,
    },
    Fault {
        name: "what it sends comes late",
        begins: |world| {
            let how = Spoilt { delay_ms: LATE_MS, only: Some(Way::Sent), ..Spoilt::default() };
            world.spoil("b", Some(how));
        },
        ends: |world| world.spoil("b", None),
        from_b: |heard| heard.late() && heard.all(),
        to_b: Heard::all,
    },
    Fault {
        name: "packets overtake each other",
        begins: |world| world.spoil("b", Some(Spoilt { jitter_ms: 50, ..Spoilt::default() })),
        ends: |world| world.spoil("b", None),
        from_b: Heard::reordered,
        to_b: Heard::reordered,
    },
    Fault {
        name: "its cable is out",
        begins: |world| world.plug("b", false),
        ends: |world| world.plug("b", true),
        from_b: Heard::none,
        to_b: Heard::none,
    },
];

/// Datagrams with numbers, from one host to another.
fn heard(world: &World, from: &str, to: &str) -> Heard {
    let (from, to) = (world.host(from), world.host(to));
    let at: SocketAddr = format!("{}:{PORT}", to.address()).parse().expect("an address");
    let bind = |address: String| UdpSocket::bind(address).expect("a free port");
    let inbox = to.network().within(|| bind(at.to_string()));
    let outbox = from.network().within(|| bind(format!("{}:0", from.address())));
    inbox.set_read_timeout(Some(QUIET)).expect("a valid time-out");
    let began = Instant::now();
    for number in 0..SENT {
        // Into a cable that is out the kernel may refuse to send.
        let _ = outbox.send_to(&number.to_be_bytes(), at);
    }
    let mut heard = Heard { numbers: Vec::new(), first: None };
    let mut bytes = [0; 4];
    while inbox.recv(&mut bytes).is_ok() {
        heard.first.get_or_insert_with(|| began.elapsed());
        heard.numbers.push(u32::from_be_bytes(bytes));
    }
    heard
}

#[test]
fn faults_of_the_network_are_faults() {
    let Some(mut world) = World::new() else { return };
    world.add("a", Segment::A);
    world.add("b", Segment::A);
    let whole = |world: &World| {
        until("all is heard both ways", || {
            heard(world, "b", "a").all() && heard(world, "a", "b").all()
        });
    };
    whole(&world);
    for fault in FAULTS {
        (fault.begins)(&mut world);
        let both = |world: &World| (heard(world, "b", "a"), heard(world, "a", "b"));
        // With their cable hosts lose each other's address, and may ask for it in vain.
        until(fault.name, || {
            let (from_b, to_b) = both(&world);
            (fault.from_b)(&from_b) && (fault.to_b)(&to_b)
        });
        let (from_b, to_b) = both(&world);
        assert!((fault.from_b)(&from_b), "{}: from it {from_b:?}", fault.name);
        assert!((fault.to_b)(&to_b), "{}: to it {to_b:?}", fault.name);
        (fault.ends)(&mut world);
        whole(&world);
    }
    // What reaches it at another address does not at the old one, which it has no more.
    let old = world.host("b").address();
    world.change_address("b", 99);
    whole(&world);
    let has_old = world.host("b").network().within(|| UdpSocket::bind((old.as_str(), 0)).is_ok());
    assert!(!has_old, "it has {old} still");
    world.close("b");
    assert!(!opens(&world, "a", "b"), "a closed host takes a connection");
    assert!(opens(&world, "b", "a"), "a closed host opens none");
    whole(&world);
    world.power_off("b");
    world.boot("b");
    whole(&world);
    assert!(opens(&world, "a", "b"), "it is closed for as long as it is on");
}

/// Whether one host opens a TCP connection to another.
fn opens(world: &World, from: &str, to: &str) -> bool {
    let (from, to) = (world.host(from), world.host(to));
    let at: SocketAddr = format!("{}:{PORT}", to.address()).parse().expect("an address");
    let _listens = to.network().within(|| TcpListener::bind(at).expect("a free port"));
    from.network().within(|| TcpStream::connect_timeout(&at, 2 * QUIET).is_ok())
}

#[test]
fn faults_of_a_machine_are_faults() {
    let Some(mut world) = World::new() else { return };
    world.add("a", Segment::A);
    world.add("b", Segment::A);
    let host = world.host_mut("b");
    host.small_disk(64);
    let file = host.path("data/file").to_string_lossy().into_owned();
    let writes = || format!("head -c 65536 /dev/zero > {file}");
    let written = |host: &crate::harness::Host| host.run(&["sh", "-c", &writes()], None);
    written(host).ok();
    host.run(&["rm", &file], None).ok();
    host.fill_disk(true);
    written(host).fails_with("No space left on device");
    host.fill_disk(false);
    written(host).ok();

    // By its clock the cluster is as old as its clock is wrong, by less than certificates
    // are backdated.
    let ahead = jiff::SignedDuration::from_hours(10);
    let host = world.host_mut("a");
    host.set_clock(ahead.as_secs());
    host.start(&["server"]);
    let created = "get namespace default -o jsonpath={.metadata.creationTimestamp}";
    let created: jiff::Timestamp = world.kubectl("a", created).ok().stdout.parse().expect("a time");
    let by = created.duration_since(jiff::Timestamp::now());
    assert!((by - ahead).abs() < jiff::SignedDuration::from_mins(5), "{by:?}");

    // One that is frozen says nothing, and goes on where it was.
    let answers = |world: &World| world.kubectl("a", "get --raw /readyz --request-timeout=2s");
    answers(&world).prints("ok");
    world.host("a").freeze(true);
    assert!(!answers(&world).success, "a frozen server answers");
    world.host("a").freeze(false);
    answers(&world).prints("ok");

    // What runs does not survive that its power goes, what is on its disk does, until it is
    // installed anew.
    world.power_off("a");
    world.boot("a");
    assert!(!answers(&world).success, "a server answers that nobody started");
    let data = world.host("a").path("data").to_string_lossy().into_owned();
    let is_there = |world: &World| world.host("a").run(&["test", "-d", &data], None).success;
    assert!(is_there(&world), "a disk is lost with the power");
    world.host_mut("a").start_again();
    world.host_mut("a").wait_ready();
    answers(&world).prints("ok");
    world.reinstall("a");
    assert!(!is_there(&world), "a disk is as it was");
}
