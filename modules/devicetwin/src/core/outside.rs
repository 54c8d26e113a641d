//! What mappers say over gRPC, and the old clouds' way to set a twin.

use super::{Core, Effect, Now, Receipt, Refused, Said};
use crate::dmi::words as w;
use crate::payload::{MsgTwin, MsgTwins, MsgValue, TwinUpdate};
use crate::twin::Origin;

impl Core {
    /// Takes a mapper's report. Any part of it may be missing: what is there counts.
    pub(crate) fn on_report(
        &mut self,
        now: Now,
        report: w::ReportDeviceStatusRequest,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        let id = format!("{}/{}", report.device_namespace, report.device_name);
        let value = |property: Option<w::TwinProperty>| {
            property.map(|it| MsgValue { value: Some(it.value.into()), metadata: None })
        };
        let twins = report.reported_device.unwrap_or_default().twins.into_iter();
        let twins = twins.map(|twin| {
            let said = MsgTwin {
                expected: value(twin.observed_desired),
                actual: value(twin.reported),
                ..MsgTwin::default()
            };
            (twin.property_name.into(), Some(said))
        });
        let twins: MsgTwins = twins.collect();
        let said = Said { origin: Origin::Edge, id: &id, event_id: "", twins: &twins };
        let done = self.update(now, &said, receipt, out);
        self.end(now, done, receipt, out);
    }

    /// Takes a mapper's word of a device's state.
    pub(crate) fn on_state(
        &mut self,
        now: Now,
        report: &w::ReportDeviceStatesRequest,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        let id = format!("{}/{}", report.device_namespace, report.device_name);
        let done = self.set_state(now, &id, &report.state, receipt, out);
        self.end(now, done, receipt, out);
    }

    fn end(
        &mut self,
        now: Now,
        done: Result<(), Refused>,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        if let Err(refused) = done {
            self.counts.refused(&refused);
            out.push(Effect::Refuse(receipt, refused));
        }
        self.pump(now, out);
    }

    /// Takes what an old cloud says of a twin, with its versions.
    pub(crate) fn on_cloud_twin(
        &mut self,
        now: Now,
        id: &str,
        content: &[u8],
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        let read = serde_json::from_slice::<TwinUpdate>(content);
        let done = read
            .map_err(|error| Refused::bad(format!("the cloud's twin is not as expected: {error}")))
            .and_then(|said| {
                let twins = said.twin.unwrap_or_default();
                let event_id = &said.event_id;
                let said = Said { origin: Origin::Cloud, id, event_id, twins: &twins };
                self.update(now, &said, receipt, out)
            });
        if let Err(refused) = done {
            self.counts.refused(&refused);
            out.push(Effect::Settle(receipt));
        }
        self.pump(now, out);
    }
}
