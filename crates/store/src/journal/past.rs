//! The journal as the port of whoever asks for the past.

use super::{Journal, JournalError};
use heartwatch_domain::history::{ChangesQuery, Gone, NewestQuery, ReadingsPlot, ReadingsQuery};
use heartwatch_domain::verdict::Change;
use heartwatch_ports::{BoxFuture, History};

fn in_words<T>(answer: Result<T, JournalError>) -> Result<T, String> {
    answer.map_err(|error| error.to_string())
}

impl History for Journal {
    fn changes(&self, query: ChangesQuery) -> BoxFuture<'_, Result<Vec<Change>, String>> {
        Box::pin(async move { in_words(Self::changes(self, query).await) })
    }

    fn newest_changes(&self, query: NewestQuery) -> BoxFuture<'_, Result<Vec<Change>, String>> {
        Box::pin(async move { in_words(Self::newest_changes(self, query).await) })
    }

    fn readings(&self, query: ReadingsQuery) -> BoxFuture<'_, Result<ReadingsPlot, String>> {
        Box::pin(async move { in_words(Self::readings(self, query).await) })
    }

    fn gone(&self, entries_max: usize) -> BoxFuture<'_, Result<Gone, String>> {
        Box::pin(async move {
            let dead_letters = in_words(self.dead_letters(entries_max).await)?;
            let losses = in_words(self.losses().await)?;
            // the newest incarnations of every publisher are at the end of its part
            Ok(Gone { dead_letters, losses: losses.into_iter().rev().take(entries_max).collect() })
        })
    }
}
