/**
 * Who asks an object store, and where it is.
 *
 * Comes in: settings, the environment that they may be looked up in, and credentials that were handed over; goes out: the
 * access in the addon's form. For S3 the order is that of the AWS tools: what was said, the environment, the profile in
 * `~/.aws/credentials` and `~/.aws/config`. Azure is as its own tools have it; Google takes the HMAC keys of its XML interface. Secrets go to the addon and
 * nowhere else. Roles, instance metadata and single sign-on are not there: who has those hands the credentials over.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkhaulError, whyOf } from '../error.js';
import { display, type PathLike, toBytes } from '../names.js';
import type { StoreAccess } from '../native/options.js';
import type { Service } from './urls.js';

/** How the store of a URL is reached; no secret is among this. */
export interface StoreSettings {
  /** `http://HOST[:PORT]` or `https://HOST[:PORT]`. Default: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile; else AWS. */
  endpoint?: string;
  /** Region of the signature. Default: `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile; else `us-east-1`. */
  region?: string;
  /** The profile of `~/.aws` that has credentials, region and endpoint. Default: `AWS_PROFILE`; else `default`. */
  profile?: string;
  /** Where the bucket is named: true in the path of the URL, false in the host. Default: in the path where there is an endpoint. */
  pathStyle?: boolean;
  /** Requests are not signed. Default false. */
  anonymous?: boolean;
  /** A file of certificates (PEM) of authorities that are trusted beside those of the system. Default: `AWS_CA_BUNDLE`; else none. */
  caFile?: PathLike;
}

/** Credentials. */
export interface Credentials {
  /** Access key. */
  key: string;
  /** Its secret. */
  secret: string;
  /** Session token. Default: none. */
  token?: string;
}

type Variables = Readonly<Record<string, string | undefined>>;

/** The access to a store. Throws `USAGE` where there are no credentials and none are renounced. */
export async function accessOf(
  service: Service,
  settings: StoreSettings,
  variables: Variables = {},
  given?: Credentials,
): Promise<StoreAccess> {
  const lookUp = { s3: accessToS3, gs: accessToGoogle, az: accessToAzure }[service];
  const access = await lookUp(settings, variables, given);
  return { ...access, ...wayTo(access.endpoint, variables) };
}

/** The proxy that the environment names for a server; those of the services themselves are asked over https. */
function wayTo(endpoint: string | undefined, variables: Variables): Pick<StoreAccess, 'proxy' | 'direct'> {
  const name = endpoint?.startsWith('http:') ? 'http_proxy' : 'https_proxy';
  const proxy = first(variables[name], variables[name.toUpperCase()]);
  if (proxy === undefined) return {};
  const asked = endpoint !== undefined && URL.canParse(endpoint) ? endpoint : 'https://aws';
  const { hostname, port, protocol } = new URL(asked);
  // Nobody asks this machine through another.
  if (/^(localhost\.?|127(\.\d+){3}|0\.0\.0\.0|\[::1\])$/.test(hostname)) return {};
  const itsPort = port || (protocol === 'http:' ? '80' : '443');
  const direct = first(variables.no_proxy, variables.NO_PROXY)
    ?.split(',')
    .flatMap((given) => directHost(given.trim(), itsPort));
  return {
    proxy: proxy.includes('://') ? proxy : `http://${proxy}`,
    ...(direct !== undefined && { direct: direct.join(',') }),
  };
}

/** What `NO_PROXY` names, for a server on this port: a host that has another is none; `*.domain` is `.domain`. */
function directHost(given: string, port: string): string[] {
  // An address of IPv6 has colons of its own.
  const [, host, itsPort] = /^(\[[^\]]*\]|[^:]*):(\d+)$/.exec(given) ?? [given, given];
  if (itsPort !== undefined && itsPort !== port) return [];
  const name = host?.replace(/^\*(?=\.)/, '').replace(/^\[(.*)\]$/, '$1');
  return name ? [name] : [];
}

/** Of Azure: the variables of its own tools. The key of a credential is the account, its secret that account's key, its token a shared access signature. */
async function accessToAzure(
  { endpoint: wanted, anonymous, caFile }: StoreSettings,
  variables: Variables,
  given?: Credentials,
): Promise<StoreAccess> {
  const parts = (variables.AZURE_STORAGE_CONNECTION_STRING ?? '').split(';').map((part) => {
    const at = part.indexOf('=');
    return [part.slice(0, at), part.slice(at + 1)];
  });
  const connection = Object.fromEntries(parts) as Record<string, string | undefined>;
  const account = first(given?.key, variables.AZURE_STORAGE_ACCOUNT, connection.AccountName);
  const key = first(given?.secret, variables.AZURE_STORAGE_KEY, connection.AccountKey);
  const sas = first(given?.token, variables.AZURE_STORAGE_SAS_TOKEN, connection.SharedAccessSignature);
  const suffix = connection.EndpointSuffix;
  const { DefaultEndpointsProtocol: protocol = 'https' } = connection;
  const endpoint = first(
    wanted,
    connection.BlobEndpoint,
    suffix && account && `${protocol}://${account}.blob.${suffix}`,
  );
  if (account === undefined || (!anonymous && key === undefined && sas === undefined)) {
    throw new BulkhaulError(
      'USAGE',
      'there are no credentials for az://: set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or AZURE_STORAGE_CONNECTION_STRING; with --anonymous the account is enough',
    );
  }
  const credentials = key === undefined ? sas !== undefined && { token: sas } : { secret: key };
  return {
    key: account,
    ...(!anonymous && credentials),
    ...(endpoint !== undefined && { endpoint }),
    ...(caFile !== undefined && { authorities: await pem(caFile) }),
  };
}

async function accessToGoogle(
  { endpoint, region, pathStyle, anonymous, caFile }: StoreSettings,
  { GS_ACCESS_KEY_ID: key, GS_SECRET_ACCESS_KEY: secret }: Variables,
  given?: Credentials,
): Promise<StoreAccess> {
  const credentials = anonymous ? undefined : (given ?? (key && secret ? { key, secret } : undefined));
  if (credentials === undefined && !anonymous)
    throw new BulkhaulError(
      'USAGE',
      'there are no credentials for gs://: set GS_ACCESS_KEY_ID and GS_SECRET_ACCESS_KEY (HMAC keys of a service account), or ask without (--anonymous)',
    );
  return {
    ...credentials,
    ...(endpoint !== undefined && { endpoint }),
    ...(region !== undefined && { region }),
    ...(pathStyle !== undefined && { pathStyle }),
    ...(caFile !== undefined && { authorities: await pem(caFile) }),
  };
}

async function accessToS3(settings: StoreSettings, variables: Variables, given?: Credentials): Promise<StoreAccess> {
  const profile = await profileOf(settings.profile, variables);
  const endpoint = first(
    settings.endpoint,
    variables.AWS_ENDPOINT_URL_S3,
    variables.AWS_ENDPOINT_URL,
    profile.endpoint_url,
  );
  const region = first(settings.region, variables.AWS_REGION, variables.AWS_DEFAULT_REGION, profile.region);
  const caFile = settings.caFile ?? first(variables.AWS_CA_BUNDLE, profile.ca_bundle);
  const credentials = settings.anonymous ? undefined : (given ?? credentialsOf(settings, variables, profile));
  return {
    ...credentials,
    ...(endpoint !== undefined && { endpoint }),
    ...(region !== undefined && { region }),
    ...(settings.pathStyle !== undefined && { pathStyle: settings.pathStyle }),
    ...(caFile !== undefined && { authorities: await pem(caFile) }),
  };
}

const first = (...texts: (string | undefined)[]) => texts.find((text) => text !== undefined && text !== '');

function credentialsOf(settings: StoreSettings, variables: Variables, profile: Section): Credentials {
  const { AWS_ACCESS_KEY_ID: key, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: token } = variables;
  // A profile that was named goes before the environment.
  if (settings.profile === undefined && key && secret) return { key, secret, ...(token && { token }) };
  const { aws_access_key_id: kept, aws_secret_access_key: its, aws_session_token: session } = profile;
  if (kept && its) return { key: kept, secret: its, ...(session && { token: session }) };
  throw new BulkhaulError(
    'USAGE',
    'there are no credentials for s3://: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile of ~/.aws/credentials (--profile), or ask without (--anonymous)',
  );
}

async function pem(file: PathLike): Promise<Buffer> {
  const path = typeof file === 'string' ? toBytes(file) : file;
  return readFile(path).catch((error: Error) => {
    throw new BulkhaulError('USAGE', `the certificates can't be read: ${whyOf(error)}`, { cause: error });
  });
}

/** What a profile says of its server. Throws `USAGE` for one that is nowhere. */
export async function serverOf(
  profile: string,
  variables: Variables,
): Promise<Pick<StoreSettings, 'endpoint' | 'region'>> {
  const { endpoint_url: endpoint, region } = await profileOf(profile, variables);
  return { ...(endpoint && { endpoint }), ...(region && { region }) };
}

type Section = Readonly<Record<string, string>>;

/** The settings of a profile, of both files. Throws `USAGE` for one that was named and is in neither. */
async function profileOf(named: string | undefined, variables: Variables): Promise<Section> {
  const name = first(named, variables.AWS_PROFILE);
  const home = variables.HOME && join(variables.HOME, '.aws');
  const files = [
    first(variables.AWS_CONFIG_FILE, home && join(home, 'config')),
    first(variables.AWS_SHARED_CREDENTIALS_FILE, home && join(home, 'credentials')),
  ];
  const texts = await Promise.all(
    files.map((file) => (file === undefined ? '' : readFile(file, 'utf8').catch(() => ''))),
  );
  const [config = new Map(), credentials = new Map()] = texts.map(sectionsOf);
  const wanted = name ?? 'default';
  const parts = [config.get(`profile ${wanted}`) ?? config.get(wanted), credentials.get(wanted)];
  if (name !== undefined && parts.every((part) => part === undefined)) {
    throw new BulkhaulError('USAGE', `there is no profile ${display(name)} in ~/.aws/credentials and ~/.aws/config`);
  }
  return Object.assign({}, ...parts);
}

/** The sections of such a file: `[NAME]`, then `key = value` a line; what is indented belongs to the line before. */
export function sectionsOf(text: string): Map<string, Section> {
  const sections = new Map<string, Record<string, string>>();
  let section: Record<string, string> = {};
  for (const line of text.split(/\r?\n/)) {
    const [, name] = /^\[\s*([^\]]+?)\s*\]/.exec(line) ?? [];
    const [, key, value] = /^([\w-]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (name !== undefined) {
      section = sections.get(name) ?? {};
      sections.set(name, section);
    } else if (key !== undefined && value !== undefined) section[key.toLowerCase()] = value;
  }
  return sections;
}
