// Every alert is made to fire: the fault is made on a real relay, whose metrics promtool puts into the rules. What takes
// hours goes on in promtool. No other alert fires with it, and none on a healthy relay.
import { FAULTS } from './alert-faults.ts';
import { expectAlerts, promtoolIsMissing, RULES, TARGET } from './promtool.ts';

test('there is a fault for every alert', () => {
  expect(Object.keys(FAULTS)).toEqual(RULES.map(({ alert }) => alert));
});

(promtoolIsMissing ? test.skip : test).each(Object.entries(FAULTS))('%s', async (alert, fault) => {
  const {
    labels: { severity },
    annotations,
  } = RULES.find((rule) => rule.alert === alert)!;
  const { make, labels = TARGET, ...course } = fault;
  await expectAlerts({ ...course, ...(await make()) }, [{ alertname: alert, severity, ...labels }]);
  // What its text names is there.
  const named = Object.values(annotations)
    .join(' ')
    .matchAll(/\$labels\.(\w+)/g);
  for (const [, label] of named) expect(Object.keys(labels)).toContain(label);
});
