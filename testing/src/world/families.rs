//! What runs tell each other, and children that are mocked.

use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, Outcome};
use everpulse_protocol::family::{CallerKind, Parent};
use everpulse_protocol::history::{Close, CloseStatus};
use everpulse_protocol::{EventId, RunId};

use super::World;

impl World {
    /// An event for another run is on its way.
    pub(super) fn told(&mut self, event: Event) {
        match event.body() {
            Ok(EventBody::Spawn { start, parent }) if self.stubs.children.contains_key(&start.workflow) => {
                let child = RunId(event.id.0);
                // It may be sent twice, and is called once.
                let close = match self.mocked.get(&child) {
                    Some(close) => close.clone(),
                    None => {
                        let mock = self.stubs.children[&start.workflow].clone();
                        let close = match (mock.borrow_mut())(&start.args) {
                            Ok(value) => Close { status: CloseStatus::Completed, outcome: Outcome::Done(value) },
                            Err(failure) => Close { status: CloseStatus::Failed, outcome: Outcome::Failed(failure) },
                        };
                        self.mocked.insert(child, close.clone());
                        close
                    }
                };
                if parent.hears_begin {
                    self.tell_parent(child, &parent, "child began", &EventBody::ChildBegan { step: parent.step });
                }
                let closed = EventBody::ChildClosed { step: parent.step, close: Box::new(close), never_began: false };
                self.tell_parent(child, &parent, "child closed", &closed);
            }
            Ok(EventBody::Demanded { caller, .. })
                if caller.kind == CallerKind::Parent
                    && event.run_id.is_some_and(|child| self.mocked.contains_key(&child)) => {}
            _ => self.publish(event, false),
        }
    }

    fn tell_parent(&mut self, child: RunId, parent: &Parent, what: &str, body: &EventBody) {
        let event = Event {
            id: EventId::derived(child, parent.step, what),
            workflow_id: parent.workflow_id.clone(),
            run_id: Some(parent.run_id),
            exact: false,
            sent_at: self.now,
            reply_to: None,
            again: false,
            body: Body::of(body),
        };
        self.publish(event, false);
    }
}
