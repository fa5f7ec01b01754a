//! The table of stores seen: full, it goes on taking in whoever counts, and forgets strangers first.

use std::collections::BTreeSet;

use super::founded;
use crate::store::conformance::open_options;
use crate::store::error::StoreError;
use crate::store::record::{BootSeen, PEERS_MAX};
use crate::store::store::{PeerSeen, Store};
use crate::types::{BootNonce, Incarnation, StoreId};

const NONCE: BootNonce = BootNonce([7; 16]);

fn peer(number: usize) -> StoreId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    StoreId(id)
}

#[test]
fn a_table_full_of_strangers_takes_in_another_store_and_keeps_the_members() {
    let mut store = founded();
    // The members came first and stand first in the table; what comes later must not cost them their place.
    let members: BTreeSet<StoreId> = (0..3).map(peer).collect();
    for number in 0..PEERS_MAX + 20 {
        let seen = store.record_peer(peer(number), Incarnation(5), NONCE, &members);
        assert_eq!(seen, Ok(PeerSeen::Adopted), "store {number}");
    }
    let (mut store, found) = Store::open(store.into_disk(), open_options()).unwrap();
    assert_eq!(found.peers.len(), PEERS_MAX);
    assert!(members.iter().all(|member| found.peers.contains_key(member)));
    // An old copy of a member is still known as one.
    let known = BootSeen { incarnation: Incarnation(5), nonce: NONCE };
    let copy = store.record_peer(peer(0), Incarnation(4), NONCE, &members);
    assert_eq!(copy, Ok(PeerSeen::Copy { known }));
    assert_eq!(store.record_peer(peer(0), Incarnation(6), NONCE, &members), Ok(PeerSeen::Adopted));
}

#[test]
fn a_table_in_which_every_store_is_in_use_refuses_a_newcomer_and_changes_nothing() {
    let mut store = founded();
    let all: BTreeSet<StoreId> = (0..PEERS_MAX).map(peer).collect();
    for number in 0..PEERS_MAX {
        assert_eq!(store.record_peer(peer(number), Incarnation(5), NONCE, &all), Ok(PeerSeen::Adopted));
    }
    let operations = store.disk().operations();
    let newcomer = store.record_peer(peer(PEERS_MAX), Incarnation(5), NONCE, &all);
    assert_eq!(newcomer, Err(StoreError::PeersFull));
    assert_eq!(store.disk().operations(), operations);
    assert_eq!(store.record_peer(peer(9), Incarnation(6), NONCE, &all), Ok(PeerSeen::Adopted));
}
