//! The frames of the handshake: hello, hello-ack, confirm, welcome.

use crate::cursor::{CursorError, Reader, Writer, varint_bytes};
use crate::types::{BootNonce, ClusterId, Incarnation, StoreId};

/// The size to which a hello's datagram is padded: no hello-ack is larger, so that answering a forged hello
/// sends no more than it received. `[W-22]`
pub const HELLO_DATAGRAM_BYTES: usize = 256;

/// How one end shows itself in a hello or its answer. A client has no store, timeouts or greeting to show: zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The lowest wire version it speaks.
    pub version_min: u8,
    /// The highest wire version it speaks.
    pub version_max: u8,
    /// Bits of optional features; none is defined yet, unknown ones are ignored.
    pub features: u64,
    /// The data folder it speaks for; zero for a client.
    pub store: StoreId,
    /// The number it drew at boot; a client draws one per run too.
    pub boot_nonce: BootNonce,
    /// Its cluster; zero for a blank node and for a client that knows none yet.
    pub cluster: ClusterId,
    /// The shortest election timeout it draws, in µs; below 2^62 like all spans here.
    pub election_timeout_min_us: u64,
    /// The longest election timeout it draws, in µs.
    pub election_timeout_max_us: u64,
    /// Its heartbeat interval, in µs.
    pub heartbeat_us: u64,
    /// The largest datagram it takes.
    pub datagram_bytes_max: u16,
    /// How many bytes of bodies in fragments may be under way to it; below 2^62.
    pub credit_bytes: u64,
    /// Whether it is about to found a cluster.
    pub greeting: Greeting,
}

/// What a node is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing special.
    Plain,
    /// It is blank and takes part in founding. `[W-25]`
    Founding {
        /// FNV-1a 64 of the voter list it was started with; founders of one cluster have equal ones.
        digest: u64,
    },
}

/// The first step: who are you?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Drawn for this handshake; its answer repeats it. `[W-16]`
    pub nonce_a: u64,
    /// The sender.
    pub description: Description,
}

/// The second step: the answer to a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloAck {
    /// The hello's.
    pub nonce_a: u64,
    /// A secret of the answerer that only the hello's address gets to see. `[W-17]`
    pub nonce_b: u64,
    /// The answerer.
    pub description: Description,
}

/// The third step: proof that the sender is where its hello came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// The hello's.
    pub nonce_a: u64,
    /// The hello-ack's.
    pub nonce_b: u64,
}

/// The last step: the link is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The hello's.
    pub nonce_a: u64,
    /// The incarnation by which the answerer knows the greeter: a node's own, or one given to a client.
    pub incarnation: Incarnation,
}

impl Description {
    pub(super) fn encoded_bytes(&self) -> usize {
        let spans = [
            self.election_timeout_min_us,
            self.election_timeout_max_us,
            self.heartbeat_us,
            self.credit_bytes,
        ];
        let greeting = match self.greeting {
            Greeting::Plain => 1,
            Greeting::Founding { .. } => 9,
        };
        2 + 8 + 3 * 16 + spans.map(varint_bytes).iter().sum::<usize>() + 2 + greeting
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.version_min);
        out.put_u8(self.version_max);
        out.put_u64(self.features);
        out.put_bytes(&self.store.0);
        out.put_bytes(&self.boot_nonce.0);
        out.put_bytes(&self.cluster.0);
        out.put_varint(self.election_timeout_min_us);
        out.put_varint(self.election_timeout_max_us);
        out.put_varint(self.heartbeat_us);
        out.put_u16(self.datagram_bytes_max);
        out.put_varint(self.credit_bytes);
        match self.greeting {
            Greeting::Plain => out.put_u8(0),
            Greeting::Founding { digest } => {
                out.put_u8(1);
                out.put_u64(digest);
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, CursorError> {
        Ok(Self {
            version_min: reader.u8()?,
            version_max: reader.u8()?,
            features: reader.u64()?,
            store: StoreId(reader.array()?),
            boot_nonce: BootNonce(reader.array()?),
            cluster: ClusterId(reader.array()?),
            election_timeout_min_us: reader.varint()?,
            election_timeout_max_us: reader.varint()?,
            heartbeat_us: reader.varint()?,
            datagram_bytes_max: reader.u16()?,
            credit_bytes: reader.varint()?,
            greeting: match reader.u8()? {
                0 => Greeting::Plain,
                1 => Greeting::Founding { digest: reader.u64()? },
                _ => return Err(CursorError::Value),
            },
        })
    }
}
