"use strict";
// Sends what the file OPTIONS names with nodemailer: {transport, mails}, both as nodemailer takes them. Host, port and
// login stand in the environment (see driver/clients.py) and hold where `transport` says nothing else. Prints one line
// of JSON a mail: what the library says of it. `verify: true` in place of mails only connects and logs in.
const fs = require("fs");
const nodemailer = require("nodemailer");

const env = process.env;
const { transport, mails, verify } = JSON.parse(fs.readFileSync(env.OPTIONS, "utf8"));

const transporter = nodemailer.createTransport({
  host: env.SMTP_HOST,
  port: Number(env.SMTP_PORT),
  auth: { user: env.SMTP_USERNAME, pass: env.SMTP_PASSWORD },
  ...transport,
});

function refusal(error) {
  const { code, command, response } = error;
  return { ok: false, error: error.message, code, command, reply: response || "", rejected: error.rejected || [] };
}

async function attempt(work) {
  try {
    const info = await work();
    return { ok: true, reply: info.response || "", accepted: info.accepted || [], rejected: info.rejected || [] };
  } catch (error) {
    return refusal(error);
  }
}

async function main() {
  // A pool is given all of them at once, as an application does.
  const sends = verify ? [() => transporter.verify()] : mails.map((mail) => () => transporter.sendMail(mail));
  const results = transport.pool ? await Promise.all(sends.map(attempt)) : [];
  for (const send of transport.pool ? [] : sends) {
    results.push(await attempt(send));
  }
  transporter.close();
  for (const result of results) {
    console.log(JSON.stringify(result));
  }
}

main();
