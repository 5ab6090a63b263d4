/** What the verbs share that know URLs: how a store is reached. */
import { BulkhaulError } from '../error.js';
import type { StoreSettings } from '../stores/access.js';
import { isUrl } from '../stores/urls.js';
import { VerbCommand } from './base.js';
import { flag, value } from './options.js';
import { elsewhere, parseLasting } from './values.js';

/** A native verb that may be given a URL. */
export abstract class StoreCommand extends VerbCommand {
  endpoint = value('--endpoint-url', {
    ...{ group: 'store', value: 'URL', default: '$AWS_ENDPOINT_URL_S3, $AWS_ENDPOINT_URL, the profile; else AWS' },
    help: 'The server of s3:// places: http://HOST[:PORT] or https://HOST[:PORT]',
  });
  region = value('--region', {
    ...{ group: 'store', value: 'NAME', default: '$AWS_REGION, $AWS_DEFAULT_REGION, the profile; else us-east-1' },
    help: 'The region that requests are signed for',
  });
  profile = value('--profile', {
    ...{ group: 'store', value: 'NAME', default: '$AWS_PROFILE, default' },
    help: 'The profile in ~/.aws/credentials and ~/.aws/config that has the keys; named here, it goes before the environment',
  });
  virtualHost = flag('--virtual-host', {
    group: 'store',
    help: 'Name the bucket in the host, also of --endpoint-url; otherwise it is in the path there',
  });
  anonymous = flag('--anonymous', { group: 'store', help: 'Do not sign requests: for public buckets' });
  caFile = value(
    '--ca-file',
    {
      ...{ group: 'store', value: 'FILE', default: '$AWS_CA_BUNDLE, none' },
      help: 'Trust the authorities in FILE too (certificates, PEM)',
    },
    parseLasting,
  );

  /** Throws `USAGE` where one of the places is neither a URL nor a path of this machine. */
  protected refuseHosts(verb: string, places: readonly string[]): void {
    for (const place of places) {
      const why = isUrl(place) ? undefined : elsewhere(place, verb, places);
      if (why !== undefined) throw new BulkhaulError('USAGE', why);
    }
  }

  /** How stores are reached, as an option of the operations. */
  protected get store(): StoreSettings {
    const { endpoint, region, profile, caFile } = this;
    return {
      ...(endpoint !== undefined && { endpoint }),
      ...(region !== undefined && { region }),
      ...(profile !== undefined && { profile }),
      ...(caFile !== undefined && { caFile }),
      ...(this.virtualHost && { pathStyle: false }),
      ...(this.anonymous && { anonymous: true }),
    };
  }
}

/** One that is given two places, of which the first may be on another server. */
export abstract class TwoStoresCommand extends StoreCommand {
  sourceEndpoint = value('--source-endpoint-url', {
    ...{ group: 'store', value: 'URL', default: 'that of --source-profile, else of --endpoint-url' },
    help: 'The server of the first place, where that is another',
  });
  sourceRegion = value('--source-region', {
    ...{ group: 'store', value: 'NAME', default: 'that of --source-profile, else of --region' },
    help: 'The region of the first place, where that is another',
  });
  sourceProfile = value('--source-profile', {
    ...{ group: 'store', value: 'NAME', default: 'that of --profile' },
    help: 'The profile for the first place, where that is another',
  });

  /**
   * How the store of the first place is reached; undefined: as that of the second. A profile of its own has a server of its own,
   * whatever is said of the second.
   */
  protected async sourceStore(): Promise<StoreSettings | undefined> {
    const { sourceEndpoint: endpoint, sourceRegion: region, sourceProfile: profile } = this;
    if (endpoint === undefined && region === undefined && profile === undefined) return undefined;
    const { serverOf } = await import('../stores/access.js');
    return {
      ...this.store,
      ...(profile !== undefined && (await serverOf(profile, this.context.env))),
      ...(endpoint !== undefined && { endpoint }),
      ...(region !== undefined && { region }),
      ...(profile !== undefined && { profile }),
    };
  }
}
