//! What somebody asks an agent to do, and what came of it.

/// A question to one agent. It is never a program to run: the agent knows a short list of kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Distinct for every command; its result has the same.
    pub id: String,
    /// What to do: `status`, `get_config`, `probe`, `ping`, `reload`. Text from outside.
    pub kind: String,
    /// What it is about, for example a PID; often empty. Text from outside.
    pub data: String,
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandResult {
    /// The command's id.
    pub id: String,
    /// Whether it was done.
    pub success: bool,
    /// What came out of it, or why it was not done.
    pub output: String,
}
