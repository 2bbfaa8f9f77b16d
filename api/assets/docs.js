// Renders /openapi.json: operations by tag, each with its parameters, its body, its answers, and a form that sends it.
'use strict';

/** An element with attributes (functions become listeners) and children (text or elements). */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(key, value);
    else if (value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** Text in which `code` is marked up. */
function prose(text) {
  return (text ?? '').split('\n\n').filter(Boolean).map((paragraph) =>
    el('p', {}, ...paragraph.split('`').map((part, index) => (index % 2 ? el('code', {}, part) : part))));
}

let api;

/** Follows a reference into the document. */
function resolve(schema) {
  for (let hops = 0; schema?.$ref?.startsWith('#/') && hops < 16; hops += 1) {
    const names = schema.$ref.slice(2).split('/').map((name) => name.replace(/~1/g, '/').replace(/~0/g, '~'));
    schema = names.reduce((at, name) => at?.[name], api);
  }
  return schema ?? {};
}

/** A value that a schema would accept, as far as that can be guessed: the required members only. */
function example(schema, depth = 0) {
  schema = resolve(schema);
  if (schema === true || depth > 8) return null;
  if (schema.examples?.length) return schema.examples[0];
  for (const key of ['example', 'default', 'const']) if (schema[key] !== undefined) return schema[key];
  if (schema.enum) return schema.enum[0];
  const choice = schema.oneOf?.[0] ?? schema.anyOf?.[0];
  if (choice) return example(choice, depth + 1);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  switch (type ?? (schema.properties ? 'object' : undefined)) {
    case 'object': return Object.fromEntries((schema.required ?? []).map((name) =>
      [name, example(schema.properties?.[name] ?? true, depth + 1)]));
    case 'array': return schema.minItems ? [example(schema.items ?? true, depth + 1)] : [];
    case 'string': return schema.format === 'date-time' ? new Date().toISOString() : schema.format === 'uri' ? 'https://example.com/' : 'text';
    case 'integer': case 'number': return schema.minimum ?? 1;
    case 'boolean': return false;
    default: return null;
  }
}

/** A schema as it stands in the document, folded. */
function schemaBlock(title, schema) {
  return el('details', {}, el('summary', { class: 'dim' }, title), el('pre', {}, JSON.stringify(resolve(schema), null, 2)));
}

function parameterTable(parameters, inputs) {
  const rows = parameters.map((parameter) => {
    const choices = parameter.schema?.enum;
    const input = choices
      ? el('select', { 'aria-label': parameter.name }, el('option', { value: '' }, ''), ...choices.map((c) => el('option', {}, c)))
      : el('input', { 'aria-label': parameter.name, placeholder: parameter.schema?.default ?? parameter.schema?.type ?? '' });
    inputs.push({ parameter, input });
    return el('tr', {}, el('td', {}, el('code', {}, parameter.name), el('div', { class: 'dim' }, parameter.in)),
      el('td', {}, ...prose(parameter.description)), el('td', {}, input));
  });
  return el('table', {}, el('tr', {}, el('th', {}, 'Parameter'), el('th', {}, 'Meaning'), el('th', {}, 'Value')), ...rows);
}

/** The form for a body: JSON text (with a choice of kinds where there are variants), or a file. */
function bodyForm(body) {
  const json = body.content['application/json'];
  if (!json) {
    const file = el('input', { type: 'file', 'aria-label': 'File' });
    return { element: el('div', {}, el('h3', {}, 'Body'), file), read: () => ({ body: file.files[0] ?? '', type: file.files[0]?.type || 'application/octet-stream' }) };
  }
  const schema = resolve(json.schema);
  const variants = Object.entries(schema.discriminator?.mapping ?? {});
  const text = el('textarea', { 'aria-label': 'Body', spellcheck: 'false' });
  const shown = el('div');
  const show = (variant) => {
    text.value = JSON.stringify(example(variant), null, 2);
    const { description, properties } = resolve(variant);
    shown.replaceChildren(...prose(description), schemaBlock('Schema of the payload', properties?.payload ?? variant),
      ...(variants.length ? [schemaBlock('Everything else', { $ref: '#/components/schemas/SubmissionOptions' })] : []));
  };
  const choose = variants.length ? el('select', { 'aria-label': 'Kind', change: () => show({ $ref: choose.value }) },
    ...variants.map(([kind, ref]) => el('option', { value: ref }, kind))) : undefined;
  show(variants.length ? { $ref: variants[0][1] } : json.schema);
  return { element: el('div', {}, el('h3', {}, 'Body'), choose, shown, text), read: () => ({ body: text.value, type: 'application/json' }) };
}

function answers(responses) {
  const rows = Object.entries(responses).map(([status, response]) => {
    const [media, content] = Object.entries(response.content ?? {})[0] ?? [];
    return el('tr', {}, el('td', { class: status >= 400 ? 'bad' : '' }, status),
      el('td', {}, ...prose(response.description), content?.schema && status < 400 ? schemaBlock(media, content.schema) : undefined));
  });
  return el('table', {}, ...rows);
}

/** Sends a request as the form says, and shows what came back. */
async function send(method, path, inputs, body, output) {
  const query = new URLSearchParams();
  const headers = {};
  for (const { parameter, input } of inputs) {
    if (!input.value) continue;
    if (parameter.in === 'path') path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (parameter.in === 'query') query.set(parameter.name, input.value);
    else headers[parameter.name] = input.value;
  }
  const sent = body?.read();
  if (sent) headers['Content-Type'] = sent.type;
  const url = query.size ? `${path}?${query}` : path;
  output.textContent = `${method} ${url} …`;
  try {
    const response = await fetch(url, { method, headers, body: sent?.body });
    const type = response.headers.get('Content-Type') ?? '';
    const shown = ['Location', 'Retry-After', 'ETag', 'Link', 'Preference-Applied', 'Idempotency-Replayed', 'X-Request-Id']
      .filter((name) => response.headers.has(name)).map((name) => `${name}: ${response.headers.get(name)}`);
    let content = /json|text/.test(type) ? await response.text() : `(${(await response.blob()).size} bytes of ${type || 'nothing'})`;
    if (type.includes('json')) content = JSON.stringify(JSON.parse(content), null, 2);
    output.textContent = [`${method} ${url}`, `${response.status} ${response.statusText}`, ...shown, '', content].join('\n');
  } catch (error) {
    output.textContent = `${method} ${url}\n${error}`;
  }
}

function operation(path, method, described) {
  const inputs = [];
  const parameters = described.parameters ? parameterTable(described.parameters, inputs) : undefined;
  const body = described.requestBody ? bodyForm(described.requestBody) : undefined;
  const output = el('pre', { 'aria-live': 'polite' });
  output.hidden = true;
  const button = el('button', { click: () => { output.hidden = false; send(method.toUpperCase(), path, inputs, body, output); } }, 'Send');
  return el('details', { class: 'operation', id: described.operationId },
    el('summary', {}, el('span', { class: `method ${method}` }, method.toUpperCase()), el('span', { class: 'path' }, path),
      el('span', { class: 'dim' }, described.summary)),
    el('div', {}, ...prose(described.description), parameters, body?.element, button, output,
      el('h3', {}, 'Answers'), answers(described.responses)));
}

async function render() {
  const about = document.getElementById('about');
  try {
    api = await (await fetch('/openapi.json')).json();
  } catch (error) {
    about.replaceChildren(el('p', { class: 'bad' }, `/openapi.json cannot be read: ${error}`));
    return;
  }
  about.replaceChildren(el('p', { class: 'dim' }, `${api.info.summary} Version ${api.info.version}; for programs: `,
    el('a', { href: '/openapi.json' }, '/openapi.json')), ...prose(api.info.description));
  const all = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, described]) => ({ path, method, described })));
  for (const tag of api.tags) {
    document.getElementById('operations').append(el('h2', {}, tag.name), el('p', { class: 'dim' }, tag.description),
      ...all.filter(({ described }) => described.tags.includes(tag.name))
        .map(({ path, method, described }) => operation(path, method, described)));
  }
  document.getElementById(location.hash.slice(1))?.setAttribute('open', '');
}

render();
