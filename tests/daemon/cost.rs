//! What a flood costs a cluster under load: its rate of writes with the flood and without, in turns.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, loopback};
use crate::flood::kernel_queue;
use crate::load::Load;

/// What is done to the cluster for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// Nothing.
    None,
    /// The flood goes to a socket that nobody reads: on one machine it costs the cluster processor time too.
    Elsewhere,
    /// The flood goes to the cluster.
    Here,
}

/// Writes acknowledged in all spans of each harm, and how long those were.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    writes: [u64; 3],
    spans: [Duration; 3],
    pub(crate) sent: u64,
}

impl Cost {
    /// In turns, so that whatever else the machine does befalls all three alike, until so many datagrams were sent.
    /// `send` sends one, to the cluster or elsewhere; `between` is called after each turn.
    pub(crate) fn measure(
        load: &Load,
        count: u64,
        rate: u64,
        mut send: impl FnMut(Option<SocketAddr>),
        mut between: impl FnMut(),
    ) -> Self {
        let sink = UdpSocket::bind((loopback(), 0)).unwrap();
        let elsewhere = sink.local_addr().unwrap();
        let mut cost = Self::default();
        let second = Duration::from_secs(1);
        while cost.sent < count {
            for (harm, span) in [(Harm::None, second), (Harm::Elsewhere, second), (Harm::Here, 2 * second)] {
                let (began, before) = (Instant::now(), load.total());
                match harm {
                    Harm::None => std::thread::sleep(span),
                    Harm::Elsewhere => drop(pace(rate, span, || send(Some(elsewhere)))),
                    Harm::Here => cost.sent += pace(rate, span, || send(None)),
                }
                cost.spans[harm as usize] += began.elapsed();
                cost.writes[harm as usize] += load.total() - before;
            }
            between();
        }
        cost
    }

    fn rate(&self, harm: Harm) -> f64 {
        self.writes[harm as usize] as f64 / self.spans[harm as usize].as_secs_f64()
    }

    /// Says what it came to, and that enough of the rate was left.
    pub(crate) fn report(&self, cluster: &Cluster) {
        let [none, elsewhere, here] = [Harm::None, Harm::Elsewhere, Harm::Here].map(|harm| self.rate(harm));
        let span = self.spans[Harm::Here as usize].as_secs_f64();
        eprintln!("{} datagrams in {span:.0} s, {:.0} a second", self.sent, self.sent as f64 / span);
        eprintln!(
            "writes a second: {none:.0} undisturbed; {elsewhere:.0} with the flood going elsewhere, {:.1} %; {here:.0} \
             with it coming here, {:.1} % of undisturbed, {:.1} % of elsewhere",
            100.0 * elsewhere / none,
            100.0 * here / none,
            100.0 * here / elsewhere
        );
        for id in cluster.ids() {
            let drops = kernel_queue(cluster.address(id)).drops;
            let status = cluster.status(id).unwrap();
            let (term, counts) = (status.term, &status.drops);
            eprintln!(
                "node {id}: term {term}, the kernel dropped {drops}, {} accepted, {counts:?}",
                status.accepted
            );
        }
        let figure = here / elsewhere;
        assert!(figure >= 0.8, "{:.1} % of its rate is left", figure * 100.0);
    }
}

/// Sends at this rate for this long; how often.
pub(crate) fn pace(rate: u64, span: Duration, mut send: impl FnMut()) -> u64 {
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < span {
        let due = (began.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
        while sent < due {
            send();
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    sent
}
