// The page of `trunkline demo` in a browser, used as a person would: by its buttons.
import { Tab } from './chromium.mjs';
const [base] = process.argv.slice(2);

const tab = await Tab.open();
const step = (what) => console.log(JSON.stringify({ step: what }));
const column = (title) => `[...document.querySelectorAll('section.column')]
  .find((node) => node.querySelector('h2').textContent === ${JSON.stringify(title)})`;
const titles = `[...document.querySelectorAll('section.column h2')].map((node) => node.textContent)`;
const button = (title, label) =>
  `${column(title)}.querySelector('button[aria-label^=${JSON.stringify(label)}]')`;
const press = (title, label) => tab.value(`void ${button(title, label)}.click()`);
const cards = (title) => `${column(title)}.querySelectorAll('.card').length`;
const count = (title) => `Number(${column(title)}.querySelectorAll('.gauges b')[2].textContent)`;
const connections = `document.getElementById('total-connections').textContent`;

async function moves(title) {
  await tab.until(`${column(title)}.querySelector('.dot').dataset.state === 'open'`);
  const before = await tab.value(count(title));
  await tab.until(`${count(title)} > ${before} && ${cards(title)} > 0`);
  step(`${title} moves`);
}

async function open(stream, transport, argument) {
  await tab.value(`void (() => {
    const form = document.getElementById('opener');
    const select = document.getElementById('opener-stream');
    select.value = ${JSON.stringify(stream)};
    select.dispatchEvent(new Event('change'));
    if (${JSON.stringify(argument ?? '')}) {
      document.getElementById('opener-tag').value = ${JSON.stringify(argument ?? '')};
    }
    form.querySelector('input[value=${transport}]').click();
    form.querySelector('button.primary').click();
  })()`);
}

async function close(title) {
  await press(title, 'Close');
  await tab.until(`!${column(title)}`);
  step(`${title} is closed`);
}

try {
  await tab.go(`${base}/`);
  await tab.until(`document.querySelectorAll('section.column').length >= 3`);
  const first = await tab.value(titles);
  for (const title of first) await moves(title);

  await open('public', 'sse');
  await moves('Public');
  await open('public:media', 'ws');
  await moves('Public, with media');
  await open('hashtag:local', 'ws', 'garden');
  await tab.until(`Boolean(${column('#garden (local)')})`);

  await press('Public', 'Switch the transport');
  await moves('Public');
  await press('Public', 'Pause');
  await tab.until(`${button('Public', 'Pause')}.getAttribute('aria-pressed') === 'true'`);
  await press('Public', 'Pause');
  await moves('Public');

  await tab.value(`void document.querySelectorAll('#readers input')[1].click()`);
  for (const title of ['Home', 'Public', 'Public, with media']) await moves(title);
  step('another reader');

  for (const title of await tab.value(titles)) await close(title);
  await tab.until(`${connections} === '0 WS + 0 SSE'`);
  await open('public:remote', 'sse');
  await moves('Public, remote');
  if (tab.errors.length) throw new Error(`the page complains: ${tab.errors.join('; ')}`);
  console.log(JSON.stringify({ content: true }));
  await tab.exit(0);
} catch (error) {
  console.log(JSON.stringify({ content: false, error: String(error), complaints: tab.errors }));
  await tab.exit(1);
}
