/**
 * One SASL exchange of a client, whatever the protocol it is framed in: lines
 * in, challenges, questions for the owner and at last a login out. It decides;
 * the door asks the owner and tells it the answer.
 */
import { randomBytes } from 'node:crypto';
import { Fault } from '../../base/fault.ts';
import {
  authMessage,
  type ClientFirst,
  parseClientFinal,
  parseClientFirst,
  serverFirst,
} from '../../mailwire/scram.ts';
import { type BearerLogin, parseBearerMessage } from './bearer-token.ts';
import { decodeBase64, decodeUtf8, type SaslState, startSasl, stepSasl } from './sasl.ts';

export type SaslMechanism =
  | 'PLAIN'
  | 'LOGIN'
  | 'SCRAM-SHA-256'
  | 'SCRAM-SHA-256-PLUS'
  | 'OAUTHBEARER'
  | 'XOAUTH2';

/** Which mechanisms a site has beside PLAIN and LOGIN. */
export interface SaslOffer {
  readonly scram: boolean;
  /** Absent: no issuer of tokens is known. */
  readonly oauth?: { readonly issuer: string; readonly userClaim: string } | undefined;
}

/** The connection, as far as a login can be bound to it. */
export interface SaslChannel {
  canBind(): boolean;
  /** Binding data of a type (`tls-exporter`); `undefined` where it is not served. */
  bind(type: string): Buffer | undefined;
}

export const onlyPasswords: SaslOffer = { scram: false };
export const unboundChannel: SaslChannel = { canBind: () => false, bind: () => undefined };

/** The mechanisms to announce on a connection that may log in. */
export function mechanismsOf(offer: SaslOffer, channel: SaslChannel): readonly SaslMechanism[] {
  const names: SaslMechanism[] = ['PLAIN', 'LOGIN'];
  if (offer.scram) names.push('SCRAM-SHA-256');
  if (offer.scram && channel.canBind()) names.push('SCRAM-SHA-256-PLUS');
  if (offer.oauth !== undefined) names.push('OAUTHBEARER', 'XOAUTH2');
  return names;
}

/** A proof the owner can check again and again: nothing in it is used up. */
export interface ScramLogin {
  readonly user: string;
  readonly authMessage: string;
  readonly proof: Buffer;
}

export type SaslLogin = { readonly user: string; readonly password: string } | ScramLogin | BearerLogin;

export type SaslStep =
  /** Base64, as it stands behind `+ ` or `334 `; the client's next line comes to `line`. */
  | { readonly challenge: string }
  /** What does the owner keep for this user? Then `salted`. */
  | { readonly salt: string }
  /** Does the owner find the proof right? Then `proven` or `refused`. */
  | { readonly prove: ScramLogin }
  /** Log in; when it is refused, `refused`. */
  | { readonly login: SaslLogin }
  /** `user`: whose login has failed, where the exchange got that far. */
  | { readonly failed: 'cancelled' | 'base64' | 'refused'; readonly user?: string };

type Stage =
  | { readonly at: 'start' }
  | { readonly at: 'password'; readonly state: SaslState }
  | { readonly at: 'client-first' }
  | { readonly at: 'salt'; readonly first: ClientFirst }
  | { readonly at: 'client-final'; readonly first: ClientFirst; readonly serverFirst: string }
  | { readonly at: 'proof'; readonly login: ScramLogin }
  /** The client has our signature and says that it has seen it. */
  | { readonly at: 'seen'; readonly login: ScramLogin }
  | { readonly at: 'token' }
  | { readonly at: 'token-check' }
  /** RFC 7628 3.2.3: the client has the reason and must answer once more. */
  | { readonly at: 'token-refused' };

export class SaslExchange {
  readonly mechanism: SaslMechanism;
  readonly #offer: SaslOffer;
  readonly #channel: SaslChannel;
  readonly #newNonce: () => string;
  #stage: Stage = { at: 'start' };

  constructor(
    mechanism: SaslMechanism,
    offer: SaslOffer,
    channel: SaslChannel,
    newNonce = () => randomBytes(18).toString('base64'),
  ) {
    this.mechanism = mechanism;
    this.#offer = offer;
    this.#channel = channel;
    this.#newNonce = newNonce;
  }

  /** `undefined` for a mechanism that was not announced. @param name  In capitals. */
  static named(name: string, offer: SaslOffer, channel: SaslChannel): SaslExchange | undefined {
    const mechanism = mechanismsOf(offer, channel).find((known) => known === name);
    return mechanism === undefined ? undefined : new SaslExchange(mechanism, offer, channel);
  }

  /** @param initial  Initial response as written (`=`: empty), `undefined` without one. */
  begin(initial: string | undefined): SaslStep {
    switch (this.mechanism) {
      case 'PLAIN':
      case 'LOGIN':
        return this.#password(startSasl(this.mechanism, initial));
      case 'SCRAM-SHA-256':
      case 'SCRAM-SHA-256-PLUS':
        this.#stage = { at: 'client-first' };
        break;
      default:
        this.#stage = { at: 'token' };
    }
    if (initial === undefined) return { challenge: '' };
    return this.line(initial === '=' ? '' : initial);
  }

  /** One line of the client. */
  line(line: string): SaslStep {
    const stage = this.#stage;
    if (stage.at === 'password') return this.#password(stepSasl(stage.state, line));
    // What the client says to a refusal changes nothing.
    if (stage.at === 'token-refused') return { failed: 'refused' };
    if (line === '*') return { failed: 'cancelled' };
    const bytes = decodeBase64(line);
    if (bytes === undefined) return { failed: 'base64' };
    const text = decodeUtf8(bytes);
    if (text === undefined) return { failed: 'refused' };
    try {
      switch (stage.at) {
        case 'client-first':
          return this.#clientFirst(text);
        case 'client-final':
          return this.#clientFinal(stage.first, stage.serverFirst, text);
        case 'seen':
          return text === '' ? { login: stage.login } : { failed: 'refused' };
        case 'token':
          return this.#token(text);
        default:
          throw new Fault('bug', `a line came at ${stage.at}`);
      }
    } catch (error) {
      if (Fault.from(error).whose !== 'client') throw error;
      return { failed: 'refused', ...('first' in stage ? { user: stage.first.user } : {}) };
    }
  }

  /** What the owner keeps for the user. */
  salted(record: { readonly salt: Buffer; readonly iterations: number }): SaslStep {
    if (this.#stage.at !== 'salt') throw new Fault('bug', `a salt came at ${this.#stage.at}`);
    const { first } = this.#stage;
    const text = serverFirst(first, this.#newNonce(), record);
    this.#stage = { at: 'client-final', first, serverFirst: text };
    return challengeOf(text);
  }

  /** The proof is right. @param signature  The owner's. */
  proven(signature: string): SaslStep {
    if (this.#stage.at !== 'proof') throw new Fault('bug', `a signature came at ${this.#stage.at}`);
    this.#stage = { at: 'seen', login: this.#stage.login };
    return challengeOf(`v=${signature}`);
  }

  /** The owner refuses the login. */
  refused(): SaslStep {
    if (this.#stage.at !== 'token-check') return { failed: 'refused' };
    this.#stage = { at: 'token-refused' };
    const issuer = this.#offer.oauth?.issuer ?? '';
    // XOAUTH2 clients know the status as HTTP has it, those of OAUTHBEARER by RFC 6750 3.1.
    const reason =
      this.mechanism === 'XOAUTH2'
        ? { status: '401', schemes: 'bearer' }
        : {
            status: 'invalid_token',
            'openid-configuration': `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`,
          };
    return challengeOf(JSON.stringify(reason));
  }

  #password(step: ReturnType<typeof startSasl>): SaslStep {
    if ('challenge' in step) {
      this.#stage = { at: 'password', state: step.state };
      return { challenge: step.challenge };
    }
    return 'failed' in step ? step : { login: step };
  }

  #clientFirst(text: string): SaslStep {
    const first = parseClientFirst(text);
    const { kind } = first.binding;
    const plus = this.mechanism === 'SCRAM-SHA-256-PLUS';
    const fits = plus ? kind === 'used' : kind !== 'used';
    // RFC 5802 6: a client that could bind and saw no -PLUS here has been lied to on the way.
    const downgraded = kind === 'unused' && this.#channel.canBind();
    if (!fits || downgraded) return { failed: 'refused', user: first.user };
    // Acting for somebody else is a right nobody has (CASES 70).
    if (first.authzid !== '' && first.authzid.toLowerCase() !== first.user.toLowerCase())
      return { failed: 'refused', user: first.user };
    this.#stage = { at: 'salt', first };
    return { salt: first.user };
  }

  #clientFinal(first: ClientFirst, serverFirstText: string, text: string): SaslStep {
    const final = parseClientFinal(text);
    const nonce = serverFirstText.slice('r='.length, serverFirstText.indexOf(','));
    if (final.nonce !== nonce || !final.binding.equals(this.#expectedBinding(first)))
      return { failed: 'refused', user: first.user };
    const login = {
      user: first.user,
      authMessage: authMessage(first, serverFirstText, final),
      proof: final.proof,
    };
    this.#stage = { at: 'proof', login };
    return { prove: login };
  }

  /** @throws {Fault} `bad-syntax` for a type that is not served. */
  #expectedBinding(first: ClientFirst): Buffer {
    const header = Buffer.from(first.gs2Header);
    if (first.binding.kind !== 'used') return header;
    const data = this.#channel.bind(first.binding.type);
    if (data === undefined) throw new Fault('bad-syntax', 'this channel binding is not served');
    return Buffer.concat([header, data]);
  }

  #token(text: string): SaslStep {
    const { oauth } = this.#offer;
    if (oauth === undefined || (this.mechanism !== 'OAUTHBEARER' && this.mechanism !== 'XOAUTH2'))
      throw new Fault('bug', 'a token came without an issuer');
    this.#stage = { at: 'token-check' };
    const login = parseBearerMessage(this.mechanism, text, oauth.userClaim);
    return login === undefined ? this.refused() : { login };
  }
}

function challengeOf(text: string): SaslStep {
  return { challenge: Buffer.from(text).toString('base64') };
}
