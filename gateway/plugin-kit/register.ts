/** Loaded before tests of plugins run: leads `postern/plugin` and `postern/plugin-test` to us, wherever the tests stand. */
import { letSitePluginsFindTheApi } from '../plugin-host/load.ts';

letSitePluginsFindTheApi();
