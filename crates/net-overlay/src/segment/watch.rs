//! Says what [`Segments`] has to say, and tells it what is said here: a thread that
//! waits in the kernel, and sends nothing while nothing changes.

use std::{
    collections::BTreeMap,
    fmt, io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use netlink::packet::{Datagram, Packets};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use super::{Message, Other, Out, PORT, Segments, Verdict};
use crate::Error;

struct Shared {
    segments: Mutex<Segments>,
    packets: Packets,
    /// Ends the thread's sleep: something is due earlier, or it is to end.
    wake: OwnedFd,
    ends: AtomicBool,
}

/// The thread; it ends with this value.
struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Finds out, from the first node on that no router leads to.
pub(crate) struct Scout {
    me: String,
    judged: Arc<dyn Fn() + Send + Sync>,
    watch: Option<Watch>,
    /// Whether it was said that it cannot.
    is_blind: bool,
}

impl fmt::Debug for Scout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scout").field("is_blind", &self.is_blind).finish_non_exhaustive()
    }
}

impl Scout {
    /// `judged` is called after a verdict has changed.
    pub(crate) fn new(me: String, judged: impl Fn() + Send + Sync + 'static) -> Self {
        Self { me, judged: Arc::new(judged), watch: None, is_blind: false }
    }

    /// What is known of the networks to the other nodes by now; what is not is being
    /// found out. Cheap where nothing has changed.
    pub(crate) fn verdicts(
        &mut self,
        others: &BTreeMap<String, Other>,
    ) -> BTreeMap<String, Verdict> {
        if self.watch.is_none() && others.values().any(|other| !other.ways.is_empty()) {
            match Watch::start(self.me.clone(), self.judged.clone()) {
                Ok(watch) => self.watch = Some(watch),
                // The routes say then, as where another version does not answer.
                Err(error) if !self.is_blind => {
                    self.is_blind = true;
                    tracing::warn!(
                        %error,
                        "whether the network lets packets of pods pass cannot be tried"
                    );
                }
                Err(_) => {}
            }
        }
        let Some(watch) = &self.watch else { return BTreeMap::new() };
        watch.know(others);
        watch.shared.segments().verdicts()
    }
}

#[cfg(test)]
impl Scout {
    /// What is known of the other nodes, by name.
    pub(crate) fn known(&self) -> Vec<Verdict> {
        let verdicts = |watch: &Watch| watch.shared.segments().verdicts().into_values().collect();
        self.watch.as_ref().map(verdicts).unwrap_or_default()
    }
}

impl Watch {
    /// # Errors
    /// Somebody else has the port, or the system is out of something.
    fn start(me: String, judged: Arc<dyn Fn() + Send + Sync>) -> Result<Self, Error> {
        let fail = |source: io::Error| {
            let what = "try which nodes are on this segment".to_owned();
            Error::Userspace { what, source }
        };
        let packets = Packets::open(PORT)?;
        let mut number = [0; 8];
        let filled = SystemRandom::new().fill(&mut number);
        filled.map_err(|_| fail(io::Error::other("the system gives no random numbers")))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = rustix::event::eventfd(0, flags).map_err(|error| fail(error.into()))?;
        let segments = Mutex::new(Segments::new(me, u64::from_ne_bytes(number)));
        let ends = AtomicBool::new(false);
        let shared = Arc::new(Shared { segments, packets, wake, ends });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("segments".into())
            .spawn(move || of_thread.listen(&*judged))
            .map_err(fail)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// These are the other nodes now.
    fn know(&self, others: &BTreeMap<String, Other>) {
        let out = self.shared.segments().know(others, Instant::now());
        if !out.is_empty() {
            self.shared.send(&out);
            self.shared.wake();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.shared.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that tries which nodes are on this segment panicked");
        }
    }
}

impl Shared {
    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Full means that it rings already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn send(&self, out: &[Out]) {
        for Out { place, addresses, message } in out {
            let [from, to] = *addresses;
            let datagram = Datagram { from, to, body: message.encode() };
            let sent = match place {
                Some(place) => self.packets.send(place, &datagram),
                None => self.packets.greet(&datagram),
            };
            // Lost like any packet that a network drops; it is said again.
            if let Err(error) = sent {
                tracing::trace!(%error, %from, %to, "a question could not be sent");
            }
        }
    }

    fn listen(&self, judged: &dyn Fn()) {
        while !self.ends.load(Ordering::SeqCst) {
            let due = self.segments().due();
            let most = due.map(|due| due.saturating_duration_since(Instant::now()));
            if let Err(error) = self.wait(most) {
                tracing::warn!(%error, "which nodes are on this segment is no longer tried");
                return;
            }
            let before = self.segments().verdicts();
            loop {
                let heard = match self.packets.receive() {
                    Ok(Some(heard)) => heard,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "which nodes are on this segment is no longer tried");
                        return;
                    }
                };
                let (place, Datagram { from, to, body }) = heard;
                if let Some(said) = Message::decode(&body) {
                    let out = self.segments().hear(&place, from, to, said, Instant::now());
                    self.send(&out);
                }
            }
            let out = self.segments().tick(Instant::now());
            self.send(&out);
            if self.segments().verdicts() != before {
                judged();
            }
        }
    }

    fn wait(&self, most: Option<Duration>) -> io::Result<()> {
        let [v4, v6] = self.packets.fds();
        let mut fds =
            [self.wake.as_fd(), v4, v6].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let most = most.map(|time| Timespec {
            tv_sec: time.as_secs() as _,
            tv_nsec: time.subsec_nanos() as _,
        });
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, most.as_ref()))?;
        // Its count is of no interest, and that it had none neither.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        Ok(())
    }
}
