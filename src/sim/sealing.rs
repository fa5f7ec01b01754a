//! Keys for a simulation whose datagrams are sealed.
//!
//! Clients hold a key of their own, so that it is also by keys that they are told from nodes. All keys, and what the
//! ends draw for their handshakes, follow from the seed, by a generator of their own: what else is drawn is the same
//! in a sealed run and in a plain one.

use std::sync::Arc;

use super::invariant::{Invariants, SessionSecrets};
use super::settings::Settings;
use crate::rng::Rng;
use crate::rpc::SealConfig;
use crate::seal::{Entropy, Key, KeyRing, KeyRole, SealMode, Secret, suite};

/// Gives nodes and clients their keys, and the checks all of them; does nothing when nothing is to be sealed.
///
/// # Panics
/// When there is no cryptography in this build.
pub(super) fn prepare(settings: &mut Settings, invariants: &mut Invariants) {
    let mode = settings.seal;
    if mode == SealMode::Off {
        return;
    }
    let suite = suite().expect("only a build with the feature `seal` simulates sealed datagrams");
    let mut rng = Rng::from_seed(settings.seed ^ 0x5ea1_5ea1_5ea1_5ea1);
    let mut secret = || {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&rng.bytes16());
        bytes[16..].copy_from_slice(&rng.bytes16());
        Secret::new(bytes)
    };
    let of_cluster = Key { role: KeyRole::Cluster, secret: secret() };
    let of_clients = Key { role: KeyRole::Client, secret: secret() };
    let entropy = Entropy::new(secret());
    let ring = |keys| Arc::new(KeyRing::new(suite.clone(), keys).expect("two keys that are not the same"));
    let all = ring(vec![of_cluster, of_clients.clone()]);
    let secrets = Arc::new(SessionSecrets::default());
    let config = |keys, packets_per_phase_max| SealConfig {
        mode,
        keys: Some(keys),
        entropy: Some(entropy.clone()),
        packets_per_phase_max,
        key_log: Some(secrets.clone()),
    };
    settings.rpc.seal = config(all.clone(), settings.rpc.seal.packets_per_phase_max);
    let seal = &mut settings.client.rpc.seal;
    *seal = config(ring(vec![of_clients]), seal.packets_per_phase_max);
    invariants.see_through(mode, all, secrets);
}
