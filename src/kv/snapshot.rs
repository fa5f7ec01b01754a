//! The map as bytes: `version u8 ‖ rows varint`, then per row, keys ascending, `key length varint ‖ key ‖ value length
//! varint ‖ value ‖ index varint`.

use std::sync::Arc;

use super::command::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use super::state::Stored;
use crate::cursor::Writer as _;
use crate::layered::FrozenMap;
use crate::machine::{Fields, Frozen, RestoreError, Sink, SinkClosed, Source};
use crate::types::Index;

const VERSION: u8 = 1;

/// The map as it was at one index.
#[derive(Debug)]
pub(super) struct FrozenKv(pub(super) FrozenMap<Arc<[u8]>, Stored>);

impl Frozen for FrozenKv {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        let mut fields = Vec::new();
        fields.put_u8(VERSION);
        fields.put_varint(self.0.len() as u64);
        for (key, stored) in self.0.iter() {
            fields.put_prefixed(key);
            fields.put_varint(stored.value.len() as u64);
            sink.put(&fields)?;
            sink.put(&stored.value)?;
            fields.clear();
            fields.put_varint(stored.index.0);
        }
        sink.put(&fields)
    }
}

type Row = (Arc<[u8]>, Stored);

/// Reads the rows one by one, and refuses what no map writes.
pub(super) fn rows(
    source: &mut dyn Source,
) -> Result<impl Iterator<Item = Result<Row, RestoreError>>, RestoreError> {
    let mut fields = Fields::new(source);
    let mut version = [0];
    fields.fill(&mut version)?;
    if version != [VERSION] {
        return Err(RestoreError::Malformed);
    }
    let count = fields.varint()?;
    let mut before: Option<Arc<[u8]>> = None;
    Ok((0..count).map(move |_| {
        let key: Arc<[u8]> = fields.prefixed(KEY_BYTES_MAX)?.into();
        let value: Arc<[u8]> = fields.prefixed(VALUE_BYTES_MAX)?.into();
        let index = Index(fields.varint()?);
        if before.as_ref().is_some_and(|before| *before >= key) {
            return Err(RestoreError::Malformed);
        }
        before = Some(Arc::clone(&key));
        let stored = Stored::new(&key, value, index);
        Ok((key, stored))
    }))
}
