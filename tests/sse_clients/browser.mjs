// Chromium's `EventSource`: every stream at once, each from a host of its own (chromium.mjs says
// why), until each has had its last event.
import { Tab } from '../clients/chromium.mjs';
import { shown } from './shown.mjs';
const task = JSON.parse(process.env.TASK);

/* What the page does; it knows nothing of this process but its argument. */
function page({ streams, names, last }) {
  streams.forEach(({ key, port, path }, number) => {
    const source = new EventSource(`http://s${number}.trunkline.test:${port}${path}`);
    for (const name of names) {
      source.addEventListener(name, ({ type, data }) => {
        report(JSON.stringify({ key, event: type, data }));
        if (name === last) source.close();
      });
    }
    source.onerror = () => report(JSON.stringify({ error: `${key} failed` }));
  });
}

let left = task.streams.length;
const tab = await Tab.open((line) => {
  const { key, event, data, error } = JSON.parse(line);
  if (error) {
    console.error(error, tab.errors);
    tab.exit(1);
    return;
  }
  console.log(JSON.stringify({ key, event, data: shown(data) }));
  if (event === task.last && --left === 0) tab.exit(0);
});
await tab.value(`(${page})(${JSON.stringify(task)})`);
